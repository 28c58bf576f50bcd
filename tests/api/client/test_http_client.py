"""The client against real servers: good ones, dead ones, wrong ones, and ones that break off."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import httpx
import pytest
from models import read_folder

from weightvault.api.client import http_vault, transport
from weightvault.api.client.http_vault import HttpVault
from weightvault.api.client.transport import Transport
from weightvault.api.protocol.wire import MAX_FRAME_BYTES, MAX_PACK_BYTES
from weightvault.api.server.serving import listen
from weightvault.dedup.errors import (
    ChunksMissing,
    InvalidInput,
    InvalidName,
    RepoNotFound,
    Unreachable,
    VaultError,
)
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.model.report import DIMENSIONS, Query
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push

Answering = Callable[[list[bytes]], str]


def answer(status: str, body: bytes = b"", **headers: str) -> bytes:
    """A response of a weightvault server, unless X_Weightvault_Version="" says otherwise."""
    fields = {"X_Weightvault_Version": "0", "Content_Length": str(len(body))} | headers
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items() if value]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "Connection: close", "", ""]).encode() + body


def hasty(url: str) -> HttpVault:
    """A client that does not wait between tries."""
    return HttpVault(url, transport=Transport(url, retry_delays=(0.0, 0.0)))


def test_push_and_pull(remote: HttpVault, model: Path, tmp_path: Path) -> None:
    first = push(remote, model, "org/model")
    assert first.new_chunks > 0
    again = push(remote, model, "org/copy", "dev/x")
    assert (again.new_chunks, again.sent) == (0, 0)
    result = pull(remote, "org/copy", tmp_path / "out", "dev/x")
    assert result.commit == again.commit
    assert read_folder(tmp_path / "out") == read_folder(model)


def test_results_equal_those_of_the_vault_itself(
    remote: HttpVault, local: LocalVault, model: Path
) -> None:
    commit = push(remote, model, "org/model").commit
    assert remote.resolve("org/model") == local.resolve("org/model")
    assert remote.resolve("org/model", commit.id).commit == commit
    assert remote.list_repos() == local.list_repos()
    assert remote.describe_repo("org/model") == local.describe_repo("org/model")
    query = Query(DIMENSIONS, top=1, since="2020-01-01")
    assert remote.report(query) == local.report(query)
    assert remote.check() == local.check()
    digests = list(local.resolve("org/model").manifest.digests())
    assert remote.find_missing([*digests, b"\1" * 32]) == {b"\1" * 32}
    assert remote.find_missing([]) == set()
    remote.delete_repo("org/model")
    assert local.list_repos() == []


def test_errors_are_those_of_the_vault_itself(remote: HttpVault, model: Path) -> None:
    push(remote, model, "org/model")
    with pytest.raises(RepoNotFound):
        remote.resolve("org/other")
    with pytest.raises(InvalidName):
        remote.resolve("org/../model")
    with pytest.raises(InvalidName):
        remote.resolve("org/model", "../x")
    with pytest.raises(ChunksMissing):
        list(remote.read_frames("org/model", "main", [b"\1" * 32]))


def test_more_frames_than_one_request_takes(
    remote: HttpVault, local: LocalVault, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_vault, "_FRAMES_PER_REQUEST", 1)
    push(remote, model, "org/model")
    digests = list(local.resolve("org/model").manifest.digests())
    assert len(digests) > 1
    expected = list(local.read_frames("org/model", "main", digests))
    assert list(remote.read_frames("org/model", "main", digests)) == expected


def test_a_pack_too_large_is_not_even_sent(remote: HttpVault, tmp_path: Path) -> None:
    path = tmp_path / "pack"
    with path.open("wb") as file:
        file.truncate(MAX_PACK_BYTES + 1)
    with pytest.raises(InvalidInput, match="too large"):
        remote.add_pack(path, "0" * 64)


def test_no_server() -> None:
    with pytest.raises(Unreachable, match=r"no server answers at http://127\.0\.0\.1:9") as caught:
        hasty("http://127.0.0.1:9").list_repos()
    assert "weightvault serve" in (caught.value.hint or "")


def test_passwords_stay_out_of_messages() -> None:
    with pytest.raises(Unreachable) as caught:
        hasty("http://me:secret@127.0.0.1:9").list_repos()
    assert "secret" not in caught.value.message


def test_no_such_host() -> None:
    with pytest.raises(Unreachable, match="no server answers"):
        hasty("http://nowhere.invalid").list_repos()


@pytest.mark.parametrize(
    "url", ["http://", "http:///x", "ftp://host", "http://a:b", "http://a:99999"]
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(InvalidInput):
        HttpVault(url)


@pytest.mark.parametrize("proxy", ["HTTP_PROXY", "ALL_PROXY"])
def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    live: str, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(proxy, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert HttpVault(live).list_repos() == []


@pytest.mark.parametrize(
    "response",
    [
        answer("200 OK", b"<html>It works!</html>", X_Weightvault_Version=""),
        answer("404 Not Found", b"{}", X_Weightvault_Version=""),
        answer("500 Internal Server Error", X_Weightvault_Version=""),
    ],
)
def test_another_server(answering: Answering, response: bytes) -> None:
    with pytest.raises(InvalidInput, match="is no weightvault server"):
        hasty(answering([response])).list_repos()


def test_a_redirect_names_where_to(answering: Answering) -> None:
    url = answering([answer("301 Moved", Location="https://there/", X_Weightvault_Version="")])
    with pytest.raises(InvalidInput) as caught:
        hasty(url).list_repos()
    assert "https://there/" in (caught.value.hint or "")


def test_an_answer_without_end(answering: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_ANSWER_BYTES", 1000)
    with pytest.raises(InvalidInput, match="exceeds 1000 bytes"):
        hasty(answering([answer("200 OK", b"x" * 1001)])).list_repos()
    with pytest.raises(InvalidInput, match="exceeds 1000 bytes"):
        hasty(answering([answer("500 Oops", b"x" * 1001)])).list_repos()


@pytest.mark.parametrize("body", [b"", b"[", b"{}", b'[{"name": 1}]'])
def test_an_answer_that_cannot_be_read(answering: Answering, body: bytes) -> None:
    with pytest.raises(Unreachable, match="cannot read"):
        hasty(answering([answer("200 OK", body)])).list_repos()


def test_passing_failures_are_tried_again(answering: Answering) -> None:
    gateway = answer("502 Bad Gateway", b"<html>", X_Weightvault_Version="")
    busy = answer(
        "503 Service Unavailable",
        json.dumps({"error": {"code": "unreachable", "message": "m", "hint": None}}).encode(),
    )
    assert hasty(answering([gateway, busy, answer("200 OK", b"[]")])).list_repos() == []
    assert hasty(answering([b"", b"", answer("200 OK", b"[]")])).list_repos() == []
    with pytest.raises(Unreachable, match="status 502"):
        hasty(answering([gateway, gateway, gateway, answer("200 OK", b"[]")])).list_repos()


def test_what_is_not_repeatable_is_not_repeated(answering: Answering) -> None:
    with pytest.raises(Unreachable, match="did not finish"):
        hasty(answering([b"", answer("204 No Content")])).delete_repo("a/b")


def test_the_body_is_sent_again_from_its_start(
    live: str, local: LocalVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []

    def take(path: Path, name: str, **_: bool) -> int:
        seen.append(path.read_bytes())
        if len(seen) == 1:
            raise Unreachable("the bucket is slow")
        return 7

    monkeypatch.setattr(local, "add_pack", take)
    pack = tmp_path / "pack"
    pack.write_bytes(os.urandom(200_000))
    assert hasty(live).add_pack(pack, "0" * 64) == 7
    assert seen == [pack.read_bytes()] * 2


def test_a_manifest_damaged_on_its_way(answering: Answering) -> None:
    with pytest.raises(Unreachable, match="damaged"):
        hasty(answering([answer("200 OK", b"x", ETag='"0"')])).resolve("a/b")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "broke off"),
        (b"\3\0\0\0\0\0\0\0ab", "broke off"),
        ((MAX_FRAME_BYTES + 1).to_bytes(8, "little") + b"ab", "announced a frame"),
        (b"\1\0\0\0\0\0\0\0ab", "more frames"),
    ],
)
def test_bodies_that_lie_about_frames(answering: Answering, body: bytes, message: str) -> None:
    url = answering([answer("200 OK", body)])
    with pytest.raises(Unreachable, match=message):
        list(hasty(url).read_frames("a/b", "main", [b"\1" * 32]))


def test_a_body_cut_short_by_the_connection(answering: Answering) -> None:
    cut = answer("200 OK", b"\5\0\0\0\0\0\0\0abc", Content_Length="13")
    with pytest.raises(Unreachable, match="broke off in the middle"):
        list(hasty(answering([cut])).read_frames("a/b", "main", [b"\1" * 32]))


def test_a_failure_on_the_way_is_seen_by_the_client(
    remote: HttpVault, local: LocalVault, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(remote, model, "org/model")
    digests = list(local.resolve("org/model").manifest.digests())
    whole = local.read_frames

    def failing(*args):
        yield next(iter(whole(*args)))
        raise VaultError("the disk is gone")

    monkeypatch.setattr(local, "read_frames", failing)
    frames = remote.read_frames("org/model", "main", digests)
    with pytest.raises(Unreachable, match="broke off"):
        list(frames)


def test_a_server_killed_while_it_sends(serve, tmp_path: Path) -> None:
    url, process = serve(tmp_path / "vault")
    # More than the sockets between the two hold, so that most is unsent at the kill.
    (tmp_path / "noise.bin").write_bytes(os.urandom(80_000_000))
    vault = hasty(url)
    push(vault, tmp_path / "noise.bin", "org/noise", level="fast")
    digests = list(vault.resolve("org/noise").manifest.digests())
    frames = vault.read_frames("org/noise", "main", digests)
    next(frames)
    process.send_signal(signal.SIGKILL)
    with pytest.raises(Unreachable, match="broke off"):
        list(frames)
    with pytest.raises(Unreachable, match="no server answers"):
        vault.list_repos()


def test_what_was_pushed_survives_a_killed_server(serve, model: Path, tmp_path: Path) -> None:
    url, process = serve(tmp_path / "vault")
    push(HttpVault(url), model, "org/model")
    process.send_signal(signal.SIGKILL)
    process.wait()
    url, _ = serve(tmp_path / "vault")
    pull(HttpVault(url), "org/model", tmp_path / "out")
    assert read_folder(tmp_path / "out") == read_folder(model)


def test_connections_are_kept(remote: HttpVault) -> None:
    remote.list_repos()
    pool = remote._transport._client._transport._pool  # pyright: ignore
    before = list(pool.connections)
    assert len(before) == 1
    remote.list_repos()
    assert pool.connections == before


def test_answers_do_not_wait_for_acknowledgements() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_https_without_a_certificate_is_unreachable(live: str) -> None:
    with pytest.raises(Unreachable):
        hasty(live.replace("http:", "https:")).list_repos()


def test_httpx_errors_never_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ReadTimeout", "WriteError", "RemoteProtocolError", "PoolTimeout"):
        fail = Mock(side_effect=getattr(httpx, name)("x"))
        monkeypatch.setattr(httpx.Client, "send", fail)
        with pytest.raises(Unreachable):
            hasty("http://127.0.0.1:9").list_repos()
