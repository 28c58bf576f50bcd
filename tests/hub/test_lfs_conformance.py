"""What git-lfs's own program for servers asks (t/git-lfs-test-server-api of its source): batches of
files that are there, that are not, of both in turn, and of such as cannot be."""

from __future__ import annotations

import hashlib
from itertools import chain, zip_longest
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hub_bodies import send

HERE = [b"file %d" % number for number in range(12)]
MISSING = [b"no file %d" % number for number in range(9)]
INVALID = {
    "short": ("a345cde", 99),
    "long": ("1234567890abcdef" * 6, 99),
    "no digit": ("bf3e3e2af9366a3b704ax0c31de5afa64193ebabffde2091936ad2G7510bc03a", 99),
    "negative": ("e3bf" * 16, -1),
    "more negative": ("d298" * 16, -125),
}
EMPTY = ("159f" * 16, 0)


@pytest.fixture
def filled(web: TestClient) -> TestClient:
    for content in HERE:
        send(web, content)
    return web


def named(contents: list[bytes]) -> list[tuple[str, int]]:
    return [(hashlib.sha256(content).hexdigest(), len(content)) for content in contents]


def mixed(first: list[Any], second: list[Any]) -> list[Any]:
    pairs = chain.from_iterable(zip_longest(first, second))
    return [each for each in pairs if each is not None]


def ask(web: TestClient, operation: str, wanted: list[tuple[str, int]]) -> dict[str, dict]:
    body = {
        "operation": operation,
        "transfers": ["lfs-standalone-file", "basic", "ssh"],
        "ref": {"name": "refs/heads/main"},
        "hash_algo": "sha256",
        "objects": [{"oid": oid, "size": size} for oid, size in wanted],
    }
    kind = "application/vnd.git-lfs+json"
    headers = {"Accept": kind, "Content-Type": f"{kind}; charset=utf-8"}
    answer = web.post("/me/model.git/info/lfs/objects/batch", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert [line["oid"] for line in answer.json()["objects"]] == [oid for oid, _ in wanted]
    return {line["oid"]: line for line in answer.json()["objects"]}


@pytest.mark.parametrize(
    "wanted",
    [named(HERE), named(MISSING), mixed(named(HERE), named(MISSING))],
    ids=["all existing", "all missing", "mixed"],
)
@pytest.mark.parametrize("operation", ["download", "upload"])
def test_batches_lead_to_what_is_there(
    filled: TestClient, operation: str, wanted: list[tuple[str, int]]
):
    lines, here = ask(filled, operation, wanted), {oid for oid, _ in named(HERE)}
    for oid, line in lines.items():
        led = line.get("actions", {}).get(operation)
        assert (led is not None) == ((oid in here) == (operation == "download")), line
        refused = operation == "download" and oid not in here
        assert line.get("error", {}).get("code") == (404 if refused else None), line


def test_what_no_file_can_be_is_told_of_each_and_an_empty_one_is_taken(filled: TestClient):
    wanted = mixed(list(INVALID.values()), [EMPTY])
    for oid, line in ask(filled, "upload", wanted).items():
        if oid == EMPTY[0]:
            assert line["actions"]["upload"]["href"]
        else:
            assert "actions" not in line
            assert line["error"]["code"] == 422
