"""What pages of other sites can make a browser do: nothing."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from live_server import serving
from models import make_weights, write_model
from route_table import ROUTES, Route
from vaults import open_local

from weightvault.api.requests.settings import ServerSettings
from weightvault.api.requests.tokens import create_token, revoke_token
from weightvault.api.server.app import create_app
from weightvault.api.web.session import COOKIE
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.rebuild_catalogue import rebuild_catalogue
from weightvault.dedup.transfer.push import push
from weightvault.dedup.transfer.refs import History, Message
from weightvault.dedup.transfer.uploads import IncomingFiles

REPO = "acme/model"
CHANGING = [route for route in ROUTES if route.method not in ("GET", "HEAD")]
FOREIGN = (
    {"Origin": "https://elsewhere.test"},
    {"Origin": "null"},
    {"Origin": "http://localhost.elsewhere.test"},
    {"Origin": "http://localhost:1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
)
FORMS = ("text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded")
TAKE_FORMS = {
    ("POST", "/-/sign-in"),
    ("POST", "/-/sign-out"),
    # A form of huggingface_hub's that changes nothing.
    ("POST", "/api/{kind}/{repo}/paths-info/{rev}"),
}


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[LocalVault]:
    opened = open_local(tmp_path / "served")
    push(opened, write_model(tmp_path / "model", make_weights(1), "# Card\n"), REPO)
    yield opened
    opened.close()


@pytest.fixture
def web(vault: LocalVault) -> Iterator[TestClient]:
    """The server as a browser on this machine reaches it; it is open until there is a token."""
    app = create_app(vault)
    with TestClient(app, base_url="http://localhost", follow_redirects=False) as client:
        yield client


def state(vault: LocalVault) -> list[Any]:
    history = History(vault, IncomingFiles(vault))
    return [
        (repo.name, history.branches(repo.name), history.tags(repo.name))
        for repo in vault.list_repos()
    ]


def send(web: TestClient, route: Route, headers: dict[str, str]) -> httpx.Response:
    return web.request(route.method, route.address(REPO), headers=headers, **route.options(REPO))


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_no_route_takes_a_write_of_another_site(
    web: TestClient, vault: LocalVault, headers: dict[str, str]
):
    before = state(vault)
    for route in CHANGING:
        answer = send(web, route, headers)
        if route.takes(REPO):
            assert answer.status_code == 403, (route, answer.status_code, answer.text)
            assert "another site" in answer.text
        assert not [name for name in answer.headers if name.startswith("access-control")]
    assert state(vault) == before


@pytest.mark.parametrize("kind", FORMS)
def test_no_route_takes_a_form(web: TestClient, vault: LocalVault, kind: str):
    before = state(vault)
    for route in CHANGING:
        if route.takes(REPO) and route.key not in TAKE_FORMS:
            body = json.dumps(route.options(REPO).get("json") or {})
            address = route.address(REPO)
            headers = {"Content-Type": kind}
            answer = web.request(route.method, address, content=body, headers=headers)
            assert answer.status_code == 415, (route, answer.status_code, answer.text)
    assert state(vault) == before


def test_a_form_with_json_in_it_deletes_nothing(web: TestClient, vault: LocalVault):
    """The attack: a page posts a form to a server on the same machine that has no tokens."""
    form = {"Content-Type": "text/plain", "Origin": "https://elsewhere.test"}
    body = json.dumps({"name": "planted", "organization": "acme"})
    assert web.post("/api/repos/create", content=body, headers=form).status_code == 403
    branch = f"/api/models/{REPO}/branch/planted"
    assert web.post(branch, content="{}", headers=form).status_code == 403
    assert [name for name, *_ in state(vault)] == [REPO]
    assert set(state(vault)[0][1]) == {"main"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://localhost"},
        {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
    ids=str,
)
def test_its_own_pages_and_programs_may_write(web: TestClient, headers: dict[str, str]):
    kinds = ("application/json", "application/x-ndjson", "application/vnd.git-lfs+json", None)
    for number, kind in enumerate(kinds):
        sent = headers | ({"Content-Type": kind} if kind else {})
        branch = f"/api/models/{REPO}/branch/b{number}"
        assert web.post(branch, content=b"{}", headers=sent).status_code == 200


def test_nothing_is_answered_to_a_preflight(web: TestClient):
    headers = {"Origin": "https://elsewhere.test", "Access-Control-Request-Method": "DELETE"}
    for path in (f"/v1/repos/{REPO}", f"/api/models/{REPO}", f"/{REPO}", "/v1/tokens"):
        answer = web.options(path, headers=headers)
        assert answer.status_code in (404, 405)
        assert not [name for name in answer.headers if name.startswith("access-control")]
        shown = web.get(path, headers={"Origin": "https://elsewhere.test"})
        assert not [name for name in shown.headers if name.startswith("access-control")]


# Basic


def test_no_browser_is_asked_for_a_password(web: TestClient, vault: LocalVault):
    create_token(vault, "some", "admin")
    for route in ROUTES:
        answer = send(web, route, {})
        challenge = answer.headers.get("www-authenticate", "")
        assert "basic" not in challenge.lower(), route
    lfs = web.post(f"/{REPO}.git/info/lfs/objects/batch", json={"operation": "upload"})
    assert lfs.status_code == 401
    assert lfs.headers["lfs-authenticate"].startswith("Basic ")


def test_basic_credentials_open_git_lfs_alone(web: TestClient, vault: LocalVault):
    """The attack: a browser that knows a password sends it along with another site's form."""
    secret = create_token(vault, "some", "admin").secret
    password = base64.b64encode(f"any:{secret}".encode()).decode()
    headers = {"Authorization": f"Basic {password}"}
    before = state(vault)
    for route in ROUTES:
        lfs = "/info/lfs/" in route.pattern
        if route.need in ("nothing", "grant") or not route.takes(REPO):
            continue
        answer = send(web, route, headers)
        assert (answer.status_code == 401) == (not lfs), (route, answer.status_code)
    assert state(vault) == before


def test_a_token_in_the_address_of_a_server_is_sent_as_one(vault: LocalVault):
    from weightvault.api.client.http_vault import HttpVault

    secret = create_token(vault, "some", "read").secret
    with serving(create_app(vault)) as url:
        client = HttpVault(url.replace("http://", f"http://any:{secret}@"))
        assert [repo.name for repo in client.list_repos()] == [REPO]
        assert secret not in client.url
        client.close()


# Host


REBOUND = ("elsewhere.test", "elsewhere.test:80", "localhost.elsewhere.test", "127.0.0.1.x.test")


@pytest.mark.parametrize("host", REBOUND)
def test_an_open_server_knows_its_own_names_only(vault: LocalVault, host: str):
    """The attack: another site's name is given this machine's address."""
    before = state(vault)
    with serving(create_app(vault)) as url, httpx.Client(base_url=url, trust_env=False) as client:
        for route in ROUTES:
            if route.need in ("nothing", "grant", "token") or not route.takes(REPO):
                continue
            sent = {"headers": {"Host": host}, **route.options(REPO)}
            answer = client.request(route.method, route.address(REPO), **sent)
            assert answer.status_code == 403, (route, answer.text)
        assert client.get("/health", headers={"Host": host}).status_code == 200
    assert state(vault) == before


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8377", "127.0.0.1", "127.0.0.1:80", "[::1]:80", "hub.lab"]
)
def test_an_open_server_answers_under_its_own_names(vault: LocalVault, host: str):
    app = create_app(vault, ServerSettings(allowed_hosts=("hub.lab",)))
    with serving(app) as url:
        answer = httpx.get(f"{url}/v1/repos", headers={"Host": host}, trust_env=False)
        assert [repo["name"] for repo in answer.json()] == [REPO]


def test_no_link_leads_to_a_host_that_somebody_claims(vault: LocalVault):
    secret = create_token(vault, "some", "write").secret
    headers = {"Authorization": f"Bearer {secret}", "Host": "elsewhere.test"}
    batch = {"operation": "upload", "objects": [{"oid": "a" * 64, "size": 3}]}
    with serving(create_app(vault)) as url, httpx.Client(base_url=url, trust_env=False) as client:
        answers = [
            client.post(f"/{REPO}.git/info/lfs/objects/batch", json=batch, headers=headers),
            client.get(f"/api/models/{REPO}/xet-write-token/main", headers=headers),
            client.post("/api/repos/create", json={"name": "acme/new"}, headers=headers),
            client.get("/api/models?limit=1", headers=headers),
            client.get(f"/{REPO}", headers=headers),
            client.get(f"/api/models/{REPO}", headers=headers),
        ]
        for answer in answers:
            said = answer.text + str(answer.headers)
            assert "//elsewhere.test" not in said
        assert answers[-1].status_code == 200
    with serving(create_app(vault, ServerSettings(allowed_hosts=("elsewhere.test",)))) as url:
        path = f"{url}/{REPO}.git/info/lfs/objects/batch"
        answer = httpx.post(path, json=batch, headers=headers, trust_env=False)
        assert "http://elsewhere.test/" in answer.text


# Sessions and grants end


def sign_in(web: TestClient, secret: str) -> str:
    answer = web.post("/-/sign-in", data={"token": secret})
    assert answer.status_code == 303
    return str(answer.cookies[COOKIE])


def sees(web: TestClient, cookie: str) -> bool:
    web.cookies.clear()
    return web.get(f"/{REPO}", headers={"Cookie": f"{COOKIE}={cookie}"}).status_code == 200


def test_signing_out_ends_the_session_everywhere(web: TestClient, vault: LocalVault):
    """The attack: a cookie that was copied is shown after its owner signed out."""
    secret = create_token(vault, "some", "read").secret
    copied, other = sign_in(web, secret), sign_in(web, secret)
    web.cookies.clear()
    assert sees(web, other)
    web.cookies.clear()
    web.post("/-/sign-out", headers={"Cookie": f"{COOKIE}={copied}"})
    with TestClient(create_app(vault), base_url="http://localhost") as second:
        for server in (web, second):
            assert not sees(server, copied)
            assert sees(server, other)
    rebuild_catalogue(vault.backend, vault.catalogue)
    with TestClient(create_app(vault), base_url="http://localhost") as third:
        assert not sees(third, copied)


def test_grants_end_with_their_token(web: TestClient, vault: LocalVault):
    """The attack: an address or a token that was handed out outlives what it was handed out to."""
    token = create_token(vault, "some", "write", "acme")
    headers = {"Authorization": f"Bearer {token.secret}"}
    content = b"x" * 100
    oid = hashlib.sha256(content).hexdigest()
    lfs = f"/{REPO}.git/info/lfs/objects/batch"
    item = {"oid": oid, "size": len(content)}

    def href(operation: str) -> str:
        asked = {"operation": operation, "objects": [item]}
        (line,) = web.post(lfs, json=asked, headers=headers).json()["objects"]
        return line["actions"][operation]["href"]

    up = href("upload")
    assert web.put(up, content=content).status_code == 200
    down = href("download")
    assert web.get(down).content == content
    xet = web.get(f"/api/models/{REPO}/xet-write-token/main", headers=headers).json()
    asked = {
        "method": "POST",
        "url": f"{xet['casUrl']}/v1/xorb-grants/default/{'a' * 64}",
        "headers": {"Authorization": f"Bearer {xet['accessToken']}"},
        "content": b"{}",
    }
    assert web.request(**asked).status_code == 404
    revoke_token(vault, token.row.id)
    assert web.put(up, content=content).status_code == 403
    assert web.get(down).status_code == 403
    assert web.request(**asked).status_code == 401


def test_a_grant_of_nobody_ends_with_what_it_rests_on(web: TestClient, vault: LocalVault):
    """What an open server hands out is worth nothing once it is not open."""
    content = b"y" * 100
    oid = hashlib.sha256(content).hexdigest()
    IncomingFiles(vault).add([content], REPO)
    asked = {"operation": "download", "objects": [{"oid": oid, "size": len(content)}]}
    answer = web.post(f"/{REPO}.git/info/lfs/objects/batch", json=asked)
    href = answer.json()["objects"][0]["actions"]["download"]["href"]
    assert web.get(href).content == content
    create_token(vault, "first", "admin")
    assert web.get(href).status_code in (401, 403, 404)


def test_history_helpers_see_changes(vault: LocalVault):
    """The state that these tests compare shows what an attack would do."""
    before = state(vault)
    History(vault, IncomingFiles(vault)).create_repo("acme/new", Message("first"))
    assert state(vault) != before
