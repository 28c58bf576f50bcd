"""Attack: a page of another site, or what a browser or a program kept, acts for its user."""

from __future__ import annotations

import base64

import pytest
from hub_requests import commit_body
from product import Server, require

FOREIGN = "https://elsewhere.test"


def test_no_password_is_asked_for(hub):
    """A browser keeps what it was asked for, and sends it with every form from anywhere."""
    refused = hub.server.client().get("/v1/families")
    require(refused.status_code == 401, refused.text)
    challenge = refused.headers.get("www-authenticate", "")
    assert "basic" not in challenge.lower(), f"browsers are asked for a password: {challenge}"


def test_a_form_of_another_site_commits_nothing(hub):
    me = hub.user("me")
    require(me.create("me/target").is_success, "no repo")
    password = base64.b64encode(f"any:{hub.secrets['me']}".encode()).decode()
    headers = {
        "Authorization": f"Basic {password}",
        "Origin": FOREIGN,
        "Sec-Fetch-Site": "cross-site",
        "Content-Type": "text/plain",
    }
    path = "/api/models/me/target/commit/main"
    body = commit_body({"planted.py": b"import os"})
    answer = hub.server.client().post(path, content=body, headers=headers)
    planted = me.web.get("/me/target/resolve/main/planted.py").status_code
    assert planted == 404, "a page of another site committed a file"
    assert answer.status_code in (401, 403, 415)


@pytest.mark.parametrize("attack", ["form", "rebound name"])
def test_a_server_without_tokens_obeys_no_page(lone: Server, attack: str):
    """It listens on loopback, where every page that its owner looks at can send requests to."""
    headers = {
        "form": {"Origin": FOREIGN, "Content-Type": "text/plain"},
        "rebound name": {"Host": "elsewhere.test", "Content-Type": "application/json"},
    }[attack]
    name = f"planted-{len(attack)}"
    body = f'{{"name":"{name}","organization":"org"}}'
    client = lone.client()
    answer = client.post("/api/repos/create", content=body, headers=headers)
    there = client.get(f"/v1/repos/org/{name}").status_code
    assert there == 404, f"a page of another site made a repo by a {attack}"
    assert answer.status_code in (403, 415)


def test_signing_out_ends_the_session(hub):
    """A cookie that was copied is shown after its owner signed out."""
    hub.user("you").create("you/seen")
    browser = hub.server.client()
    signed = browser.post("/-/sign-in", data={"token": hub.secrets["you"]})
    require(signed.status_code == 303 and browser.cookies, signed.text)
    copied = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    thief = hub.server.client(None, Cookie=copied)
    require(thief.get("/you/seen").status_code == 200, "the session shows nothing")
    browser.post("/-/sign-out")
    status = thief.get("/you/seen").status_code
    assert status == 404, "a copied cookie shows a private repo after its owner signed out"


def test_an_upload_address_ends_with_its_token(hub):
    vault = hub.vault
    secret = vault.make_token("guest", "write", "guest")
    guest = hub.server.hub(secret)
    require(guest.create("guest/model").is_success, "no repo")
    data = b"x" * 1000
    action = guest.batch("guest/model", data)["actions"]["upload"]
    require(vault.run("token", "revoke", "guest").returncode == 0, "not revoked")
    require(guest.web.get("/api/whoami-v2").status_code == 401, "the token is not revoked")
    sent = hub.server.client().put(action["href"], content=data)
    assert sent.status_code in (401, 403), f"an upload outlives its token: {sent.status_code}"
