"""What a mirror asks its upstream for, on whose behalf, and where it is led to."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from live_server import wait_until
from mirror_front import FILES, NAME, SERVER_TOKEN, committed
from replayed_hub import ReplayedHub, Repo

from weightvault.api.errors import UnsafeAddress
from weightvault.api.mirror.addresses import check_target, find_public_address
from weightvault.api.mirror.guard import TOKEN_HEADER
from weightvault.api.requests.tokens import create_token
from weightvault.dedup.transfer.refs import History, Message
from weightvault.dedup.transfer.uploads import IncomingFiles


def test_tokens_go_to_the_upstream_alone(open_front: Callable[..., Any], upstream: ReplayedHub):
    with open_front(token=SERVER_TOKEN) as front:
        front.whole()
        assert {token for host, _, _, token in upstream.asked if host == "hub"} == {SERVER_TOKEN}
        assert {token for host, _, _, token in upstream.asked if host == "cdn"} == {None}
        wait_until(lambda: committed(front))
        answers = [front.get(p) for p in (f"/api/models/{NAME}", f"/{NAME}/resolve/main/README.md")]
        assert not any(SERVER_TOKEN in f"{a.headers}{a.text}" for a in answers)


def test_a_private_repo_is_for_those_whose_token_may_read_it(
    open_front: Callable[..., Any], upstream: ReplayedHub
):
    upstream.repos[NAME] = Repo(FILES, readers={"hf_mine", SERVER_TOKEN})
    mine, theirs = ({"Authorization": f"Bearer hf_{who}"} for who in ("mine", "theirs"))
    with open_front() as front:
        assert front.get(f"/api/models/{NAME}", headers=theirs).status_code == 404
        front.whole(headers=mine)
        wait_until(lambda: committed(front))
        paths = (
            f"/api/models/{NAME}",
            f"/{NAME}/resolve/main/README.md",
            f"/{NAME}",
            f"/v1/repos/{NAME}",
        )
        for path in (*paths, f"/v1/repos/{NAME}/files/README.md"):
            assert front.get(path, headers=mine).status_code == 200, path
            for headers in (theirs, {}):
                answer = front.get(path, headers=headers)
                assert answer.status_code in (401, 404), (path, headers)
                assert "A model" not in answer.text
        assert front.get("/api/models", headers=theirs).json() == []


def test_with_tokens_of_our_own_that_of_the_upstream_has_a_header(
    open_front: Callable[..., Any], upstream: ReplayedHub
):
    upstream.repos[NAME] = Repo(FILES, readers={"hf_mine", SERVER_TOKEN})
    with open_front(token=SERVER_TOKEN, tokens=True) as front:
        whole = create_token(front.vault, "whole", "read").secret
        limited = create_token(front.vault, "limited", "admin", "org").secret
        path = f"/{NAME}/resolve/main/README.md"

        def status(token: str | None, theirs: str | None = None) -> int:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            headers |= {TOKEN_HEADER: theirs} if theirs else {}
            return front.get(path, headers=headers).status_code

        # Without a token of ours nothing is fetched, whatever is shown of theirs.
        assert status(None) == status(None, "hf_mine") == 401
        assert not upstream.asked
        assert status(limited) == 401
        assert status(limited, "hf_other") == 404
        assert status(limited, "hf_mine") == 200
        # The server's token stands for those who may read everything, and for no other.
        assert status(whole) == 200
        assert status(whole, "hf_other") == 404
        assert status(limited) == 401
        assert not any(whole in f"{each}" or limited in f"{each}" for each in upstream.asked)


def test_a_repo_that_becomes_private_is_not_for_everybody_any_more(
    open_front: Callable[..., Any], upstream: ReplayedHub
):
    with open_front("front", "public", tokens=True) as front:
        front.whole()
        wait_until(lambda: committed(front))
        upstream.repos[NAME].readers = {"hf_mine"}
        assert front.get(f"/{NAME}/resolve/main/README.md").status_code == 401
        assert front.get(f"/{NAME}").status_code in (401, 404)
        shown = {TOKEN_HEADER: "hf_mine"}
        assert front.get(f"/{NAME}/resolve/main/README.md", headers=shown).status_code == 200


def test_a_gate_is_passed_on(open_front: Callable[..., Any], upstream: ReplayedHub):
    upstream.repos[NAME] = Repo(FILES, readers={"hf_mine"}, gated=True)
    with open_front() as front:
        for headers, status in (({}, 401), ({"Authorization": "Bearer hf_other"}, 403)):
            answer = front.get(f"/{NAME}/resolve/main/config.json", headers=headers)
            assert answer.status_code == status
            assert answer.headers["x-error-code"] == "GatedRepo"
            assert "restricted" in answer.headers["x-error-message"]
        front.whole(headers={"Authorization": "Bearer hf_mine"})


def test_rate_limits_are_passed_on_and_waited_for(
    open_front: Callable[..., Any], upstream: ReplayedHub
):
    with open_front() as front:
        upstream.limited, upstream.retry_after = 1, 77
        answer = front.get(f"/api/models/{NAME}")
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "77")
        sha = front.get(f"/api/models/{NAME}").json()["sha"]
        front.get(f"/api/models/{NAME}/tree/{sha}")
        # What is known is said, and a file waits for as long as it is told to.
        upstream.limited, upstream.retry_after = 4, 1
        assert front.get(f"/{NAME}/resolve/{sha}/README.md").content == FILES["README.md"]
        assert upstream.limited == 0


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:1",
        "http://localhost:1",
        "http://10.0.0.1",
        "http://169.254.169.254",
        "http://[::ffff:127.0.0.1]",
        "http://[64:ff9b::7f00:1]",
        "http://[2002:7f00:1::]",
        "http://[fe80::1]",
        "http://0x7f000001",
        "http://224.0.0.1",
    ],
)
def test_private_addresses_are_refused(target: str):
    url = httpx.URL(target)
    with pytest.raises(UnsafeAddress):
        find_public_address(url.host, url.port or 80)
    assert find_public_address("93.184.215.14", 80) == "93.184.215.14"


@pytest.mark.parametrize("target", ["file:///etc/x", "ftp://a.example/x", "http://a.example/x"])
def test_a_redirect_leads_to_files_behind_tls_alone(target: str):
    with pytest.raises(UnsafeAddress):
        check_target(httpx.URL("https://hub.example/x"), httpx.URL(target))


def test_it_is_not_led_to_private_addresses(open_front: Callable[..., Any], upstream: ReplayedHub):
    with open_front(hosts=()) as front:
        asked = len(upstream.ranges)
        answer = front.get(f"/{NAME}/resolve/main/weights.bin")
        assert answer.status_code == 502
        assert "127.0.0.1" not in answer.text
        assert len(upstream.ranges) == asked
        # Small files come from the upstream itself, which is the operator's to name.
        assert front.get(f"/{NAME}/resolve/main/config.json").status_code == 200


def test_names_of_ones_own_are_not_asked_for(open_front: Callable[..., Any], upstream: ReplayedHub):
    upstream.repos["acme/mine"] = upstream.repos["acme/secret"] = Repo(FILES)
    with open_front(deny=("acme/secret*",), allow=("acme/*", "org/*")) as front:
        history = History(front.vault, IncomingFiles(front.vault))
        history.create_repo("acme/mine", Message("first"))
        assert front.get("/api/models/acme/mine").json()["siblings"] == []
        for name in ("acme/secret", "acme/secret-2", "other/model", "Org/model"):
            assert front.get(f"/api/models/{name}").status_code == 404
        assert not upstream.asked
        assert front.get(f"/api/models/{NAME}").status_code == 200
        # A copy changes with its upstream alone.
        made = {"name": "model", "organization": "org"}
        assert front.web.post("/api/repos/create", json=made).status_code == 403
        line = {"key": "header", "value": {"summary": "x"}}
        commit = front.web.post(f"/api/models/{NAME}/commit/main", content=json.dumps(line))
        assert commit.status_code == 403
