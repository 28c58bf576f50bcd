"""The audit log: who did, or was denied, what."""

from __future__ import annotations

import json
import logging
import logging.config
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_server import serving
from models import make_weights, write_model
from slow_clients import ask
from vaults import open_local

from weightvault.api.client.http_vault import HttpVault
from weightvault.api.requests.access import routes_of
from weightvault.api.requests.audit import ASKS, AUDIT_LOGGER, AuditFile
from weightvault.api.requests.settings import ConnectionLimits, ServerSettings
from weightvault.api.requests.tokens import create_token
from weightvault.api.server.app import create_app
from weightvault.api.server.logs import configure
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.transfer.push import push

FACTS = {
    *("time", "request_id", "event", "who", "token_id", "address", "method", "operation"),
    *("repo", "received_bytes", "status", "outcome"),
}


class Audited:
    """A server, and what it wrote to its audit log."""

    def __init__(self, url: str, vault: LocalVault, log: Path) -> None:
        self.url, self.vault, self.log = url, vault, log

    def send(self, method: str, path: str, token: str | None = None, **options) -> httpx.Response:
        """Sends a request, with a token if there is one."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= options.pop("headers", {})
        return httpx.request(
            method, self.url + path, headers=headers, trust_env=False, timeout=60, **options
        )

    def lines(self, count: int) -> list[dict[str, Any]]:
        """The lines, once there are that many: they are written after the answers are sent."""
        deadline = time.monotonic() + 30
        while self.log.read_bytes().count(b"\n") < count:
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.01)
        raw = self.log.read_bytes()
        assert raw.isascii()
        return [json.loads(line) for line in raw.decode().splitlines()]


@pytest.fixture
def audited(tmp_path: Path) -> Iterator[Audited]:
    """See Audited."""
    with started(tmp_path, ConnectionLimits()) as made:
        yield made


@contextmanager
def started(tmp_path: Path, limits: ConnectionLimits) -> Iterator[Audited]:
    """Starts a server whose log is configured as that of `serve --audit-log` is."""
    log = tmp_path / "audit.log"
    options = configure("plain", log)["handlers"]["audit"]
    handler = AuditFile(options["filename"])
    formatter = dict(configure("json")["formatters"]["json"])
    from weightvault.api.server.logs import WithRequestId

    made = logging.config.DictConfigurator({}).configure_formatter(formatter)
    handler.setFormatter(made)
    handler.addFilter(WithRequestId())
    logger = logging.getLogger(AUDIT_LOGGER)
    with ExitStack() as stack:
        logger.addHandler(handler)
        stack.callback(handler.close)
        stack.callback(logger.removeHandler, handler)
        before = logger.level
        logger.setLevel(logging.INFO)
        stack.callback(logger.setLevel, before)
        vault = open_local(tmp_path / "served")
        stack.callback(vault.close)
        app = create_app(vault, ServerSettings(connections=limits))
        yield Audited(stack.enter_context(serving(app)), vault, log)


def test_a_push_and_a_deletion_are_on_record(audited: Audited, tmp_path: Path) -> None:
    made = create_token(audited.vault, "builder", "write", "org")
    model = write_model(tmp_path / "model", make_weights(1))
    remote = HttpVault(audited.url, token=made.secret)
    push(remote, model, "org/model")
    remote.delete_repo("org/model")
    remote.close()
    lines = audited.lines(3)
    assert all(set(line) >= FACTS for line in lines)
    found = [line["operation"] for line in lines]
    assert found[0] == "add_pack"
    assert found[-1] == "delete_repo"
    assert "commit" in found
    # Nobody is told of questions, and of reading.
    assert not set(found) & {"find_missing", "find_bases", "check_commit", "read_frames"}
    for line in lines:
        assert (line["who"], line["event"], line["outcome"]) == ("builder", "write", "done")
        assert line["token_id"]
        assert line["address"] == "127.0.0.1"
        assert line["repo"] == (None if line["operation"] == "add_pack" else "org/model")
    assert lines[0]["received_bytes"] > 1000
    assert made.secret not in audited.log.read_text()


def test_hub_writes_name_the_repo_of_their_body(audited: Audited) -> None:
    token = create_token(audited.vault, "builder", "write", "org").secret
    for path, method, body in (
        ("/api/repos/create", "POST", {"name": "one", "organization": "org"}),
        ("/api/repos/move", "POST", {"fromRepo": "org/one", "toRepo": "org/two"}),
        ("/api/repos/delete", "DELETE", {"name": "two", "organization": "org"}),
    ):
        answer = audited.send(method, path, token, json=body, headers={"X-Request-Id": path})
        assert answer.status_code == 200, answer.text
    lines = audited.lines(3)
    assert [line["operation"] for line in lines] == ["create_repo", "move_repo", "delete_repo"]
    assert [line["repo"] for line in lines] == ["org/one", "org/one org/two", "org/two"]
    assert lines[0]["request_id"] == "/api/repos/create"
    assert lines[0]["received_bytes"] == len('{"name":"one","organization":"org"}')


def test_what_is_denied_is_on_record(audited: Audited, tmp_path: Path) -> None:
    push(audited.vault, write_model(tmp_path / "model", make_weights(1)), "org/model")
    create_token(audited.vault, "first", "admin")
    foreign = create_token(audited.vault, "foreign", "write", "elsewhere").secret
    reader = create_token(audited.vault, "reader", "read", "org").secret
    for method, path, token in (
        ("GET", "/v1/repos/org/model", None),
        ("GET", "/v1/repos/org/model", foreign),
        ("GET", "/org/model/resolve/main/config.json", foreign),
        ("GET", "/api/models/org/model", "wv_not_a_token"),
        ("DELETE", "/v1/repos/org/model", reader),
        ("GET", "/v1/report", foreign),
        ("GET", "/-/storage", None),
    ):
        assert audited.send(method, path, token).status_code in (401, 403, 404), path
    assert audited.send("GET", "/v1/repos/org/model", reader).status_code == 200
    lines = audited.lines(7)
    assert {(line["event"], line["outcome"]) for line in lines} == {("denied", "denied")}
    assert [line["who"] for line in lines] == [
        *("anonymous", "foreign", "foreign", "unknown"),
        *("reader", "foreign", "anonymous"),
    ]
    assert lines[4]["operation"] == "delete_repo"
    assert [line["repo"] for line in lines[:5]] == ["org/model"] * 5
    assert "wv_not_a_token" not in audited.log.read_text()


HOSTILE = "a%1b%5b31m%e2%80%ae%0a%7b%22event%22:%22write%22%7d%7f"


def test_nothing_in_a_name_is_more_than_text(audited: Audited) -> None:
    token = create_token(audited.vault, "builder", "write", "org").secret
    audited.send("DELETE", f"/v1/repos/org/{HOSTILE}", token)
    audited.send("POST", f"/api/models/org/{HOSTILE}/branch/{HOSTILE}", token, json={})
    audited.send("PUT", f"/v1/packs/{'0' * 64}", b"\x1b[31m".hex(), content=b"x")
    lines = audited.lines(3)
    raw = audited.log.read_bytes()
    assert len(lines) == 3
    assert all(byte == 10 or 32 <= byte < 127 for byte in raw)
    assert lines[0]["repo"].startswith("org/a\x1b[31m\u202e\n")


def test_a_client_that_goes_away_is_on_record(tmp_path: Path) -> None:
    with started(tmp_path, ConnectionLimits(progress_seconds=0.5)) as audited:
        host, port = httpx.URL(audited.url).host, httpx.URL(audited.url).port
        with socket.create_connection((host, port), timeout=30) as made:
            made.sendall(
                ask("/v1/packs/" + "0" * 64, "Content-Length: 1000", method="PUT") + b"xyz"
            )
            assert made.recv(100) == b""
        assert audited.send("GET", "/health").status_code == 200
        [line] = audited.lines(1)
        assert line["outcome"] == "broken off"
        assert line["received_bytes"] == 3
        assert line["status"] is None


def test_an_address_is_the_one_that_a_request_came_from(audited: Audited) -> None:
    claimed = {"X-Forwarded-For": "10.9.8.7", "X-Real-IP": "10.9.8.7"}
    audited.send("DELETE", "/v1/repos/org/none", headers=claimed)
    assert [line["address"] for line in audited.lines(1)] == ["127.0.0.1"]


def test_a_trusted_proxy_says_whom_it_stands_for(tmp_path: Path) -> None:
    limits = ConnectionLimits(trusted_proxies=("127.0.0.0/8",))
    with started(tmp_path, limits) as audited:
        claimed = {"X-Forwarded-For": "10.9.8.7"}
        audited.send("DELETE", "/v1/repos/org/none", headers=claimed)
        assert [line["address"] for line in audited.lines(1)] == ["10.9.8.7"]


def test_the_file_is_its_owners_and_can_be_renamed(audited: Audited) -> None:
    audited.send("DELETE", "/v1/repos/org/one")
    assert stat.S_IMODE(audited.log.stat().st_mode) == 0o600
    audited.lines(1)
    os.replace(audited.log, audited.log.with_suffix(".1"))
    audited.send("DELETE", "/v1/repos/org/two")
    wait_for(audited.log)
    assert [line["repo"] for line in audited.lines(1)] == ["org/two"]
    assert stat.S_IMODE(audited.log.stat().st_mode) == 0o600


def wait_for(path: Path) -> None:
    """Waits until a file is there."""
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_questions_are_endpoints(tmp_path: Path) -> None:
    vault = open_local(tmp_path)
    app = create_app(vault)
    vault.close()
    named = {getattr(getattr(r, "endpoint", None), "__name__", "") for r in routes_of(app)}
    named |= {getattr(getattr(r, "_endpoint", None), "__name__", "") for r in routes_of(app)}
    assert named >= ASKS


def test_serve_keeps_the_log_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from weightvault.api.cli.main import cli
    from weightvault.api.server import serving as server

    taken: list[Any] = []
    monkeypatch.setattr(server, "run", lambda *args: taken.append(args[-1]))
    log = tmp_path / "audit.log"
    options = ["--vault", str(tmp_path / "v"), "serve", "--port", "0", "--audit-log", str(log)]
    assert CliRunner().invoke(cli, options).exit_code == 0
    assert taken == [log]
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    options[-1] = str(tmp_path / "no" / "such" / "folder.log")
    refused = CliRunner().invoke(cli, options)
    assert refused.exit_code != 0
    assert "cannot write" in refused.output
