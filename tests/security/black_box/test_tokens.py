"""Attack: a token outlives its purpose, or does more than it is for, and nobody can tell."""

from __future__ import annotations

import json
import time

from product import require


def test_a_token_ends_by_itself(hub):
    made = hub.vault.run(
        *("token", "create", "--json", "--name", "brief", "--role", "write"),
        *("--namespace", "brief", "--expires", "1s"),
    )
    if made.returncode:
        secret = hub.vault.make_token("brief", "write", "brief")
    else:
        secret = json.loads(made.stdout)["token"]
    time.sleep(1.5)
    status = hub.server.client(secret).get("/v1/repos").status_code
    assert status == 401, f"a token for a second goes on: {status} {made.stderr}"


def test_a_token_has_a_role_in_each_namespace(hub):
    """Where it has one role for everything, whoever writes in one namespace writes in all."""
    made = hub.vault.run(
        *("token", "create", "--json", "--name", "both", "--namespace", "me=write"),
        *("--namespace", "you=read"),
    )
    secret = json.loads(made.stdout)["token"] if not made.returncode else hub.secrets["root"]
    user = hub.server.hub(secret)
    assert user.create("me/made-by-both").is_success
    status = user.create("you/planted").status_code
    assert status == 403, f"a token that should read there writes: {status} {made.stderr}"


def test_users_list_and_revoke_their_own(hub):
    """A user whose token leaked need not wait for an operator."""
    secret = hub.vault.make_token("careless", "write", "careless")
    user = hub.server.client(secret)
    answer = user.get("/v1/tokens")
    assert answer.status_code == 200, f"users cannot see their tokens: {answer.status_code}"
    (token,) = answer.json()
    assert token["name"] == "careless"
    assert secret not in answer.text
    user.delete(f"/v1/tokens/{token['id']}")
    assert user.get("/v1/repos").status_code == 401


def test_a_rotated_token_is_replaced(hub):
    old = hub.vault.make_token("worn", "write", "worn")
    made = hub.vault.run("token", "rotate", "--json", "worn", "--overlap", "0s")
    status = hub.server.client(old).get("/v1/repos").status_code
    assert status == 401, f"the old token still holds: {status} {made.stderr}"
    new = json.loads(made.stdout)["token"]
    assert hub.server.client(new).get("/v1/repos").status_code == 200


def test_who_was_denied_what_is_on_record(hub):
    """And no token is."""
    you, me = hub.user("you"), hub.user("me")
    require(you.create("you/watched").is_success, "no repo")
    me.web.delete("/v1/repos/you/watched")
    deadline = time.monotonic() + 10
    found: dict[str, object] = {}
    while not found and time.monotonic() < deadline:
        time.sleep(0.1)
        lines = [json.loads(line) for line in hub.server.log.read_text().splitlines() if line]
        found = next(
            (x for x in lines if x.get("repo") == "you/watched" and x.get("who") == "me"), {}
        )
    assert found, "nothing tells who was denied what"
    assert found["outcome"] == "denied"
    log = hub.server.log.read_text()
    assert not any(secret in log for secret in hub.secrets.values())
