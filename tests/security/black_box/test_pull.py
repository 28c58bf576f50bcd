"""Attack: a hostile server, or whoever can plant links in the destination, against a pull."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from blake3 import blake3
from hostile_bodies import change_manifest, empty_files
from models import make_weights, read_folder, write_model
from product import Ran, Server, Vault, require, run

NOTES = "theirs"
_PASSED = ("etag", "x-weightvault-commit", "x-weightvault-version", "content-type")


@dataclass
class Liar:
    """A server between a client and an honest one: it renames files of manifests as `names` has it,
    and answers `error` to everything, if there is one."""

    honest: str
    names: dict[str, str] = field(default_factory=dict)
    error: str | None = None

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Returns the status, headers and body of an answer."""
        if self.error is not None:
            document = {"error": {"code": "x", "message": self.error, "hint": self.error}}
            return 404, {"X-Weightvault-Version": "0"}, json.dumps(document).encode()
        kind = {"Content-Type": "application/json"}
        found = httpx.request(
            method, self.honest + path, content=body, headers=kind, trust_env=False, timeout=60
        )
        headers = {name: found.headers[name] for name in _PASSED if name in found.headers}
        data = found.content
        if path.partition("?")[0].endswith("/manifest"):
            data = change_manifest(data, self._rename)
            headers["etag"] = f'"{blake3(data).hexdigest()}"'
        return found.status_code, headers, data

    def _rename(self, outline: dict[str, Any]) -> None:
        for file in outline["files"]:
            file["path"] = self.names.get(file["path"], file["path"])
        outline["files"].sort(key=lambda file: file["path"])


@contextmanager
def lying(liar: Liar) -> Iterator[str]:
    """Runs it; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def _respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, data = liar.answer(self.command, self.path, body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value.replace("\n", ""))
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_HEAD = _respond  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_model(tmp_path_factory.mktemp("model"), make_weights(1), "# A model\n")
    (folder / "sub").mkdir()
    (folder / "sub/notes.txt").write_text(NOTES)
    return folder


@pytest.fixture(scope="module")
def honest(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    vault = Vault(tmp_path_factory.mktemp("honest") / "vault")
    vault.push(model, "org/m")
    with vault.serve() as server:
        yield server


def pull(url: str, dest: Path, repo: str = "org/m") -> Ran:
    return run("--vault", url, "pull", repo, dest)


@pytest.mark.parametrize("path", [".git/hooks/post-checkout", ".ssh/authorized_keys"])
def test_nothing_is_written_that_tools_execute(honest: Server, tmp_path: Path, path: str):
    with lying(Liar(honest.url, {"README.md": path})) as url:
        done = pull(url, tmp_path / "dest")
    assert not (tmp_path / "dest" / path).exists(), f"a pull wrote {path}"
    assert done.returncode == 4


def test_links_are_not_followed(honest: Server, tmp_path: Path):
    outside, dest = tmp_path / "outside", tmp_path / "dest"
    outside.mkdir()
    dest.mkdir()
    (dest / "sub").symlink_to(outside, target_is_directory=True)
    done = pull(honest.url, dest)
    assert not any(outside.iterdir()), "a pull wrote outside its destination"
    assert done.returncode != 0


def test_no_temporary_name_can_be_foreseen(honest: Server, model: Path, tmp_path: Path):
    """A link planted under that name loses what it leads to, and the pull succeeds."""
    mine, dest = tmp_path / "mine.txt", tmp_path / "dest"
    mine.write_text("mine")
    (dest / "sub").mkdir(parents=True)
    digest = blake3(NOTES.encode()).hexdigest()
    (dest / f"sub/.weightvault-{digest[:16]}.part").symlink_to(mine)
    done = pull(honest.url, dest)
    assert mine.read_text() == "mine", "a pull overwrote a file outside its destination"
    require(done.returncode == 0, done.stderr)
    assert read_folder(model).items() <= read_folder(dest).items()


def test_a_file_called_as_a_temporary_is_not_lost(honest: Server, tmp_path: Path):
    digest = blake3((NOTES * 2).encode()).hexdigest()
    model = write_model(tmp_path / "model", make_weights(1))
    (model / f".weightvault-{digest[:16]}.part").write_text("a file like any other")
    (model / "notes.txt").write_text(NOTES * 2)
    pushed = run("--vault", honest.url, "push", model, "org/odd")
    require(pushed.returncode == 0, pushed.stderr)
    done = pull(honest.url, tmp_path / "dest", "org/odd")
    require(done.returncode == 0, done.stderr)
    lost = read_folder(model).keys() - read_folder(tmp_path / "dest").keys()
    assert not lost, f"a pull that succeeded lost {lost}"


def test_a_long_name_leaves_a_repo_pullable(honest: Server, tmp_path: Path):
    """No file system takes a name of 300 bytes, so nobody could pull what has one."""
    client = honest.client()
    answer = client.post("/v1/repos/org/long/commits", content=empty_files(["a.txt", "x" * 300]))
    done = pull(honest.url, tmp_path / "dest", "org/long")
    pulled = done.returncode == 0
    refused = answer.status_code == 400
    assert pulled or refused, f"a repo that was taken in cannot be pulled: {done.stderr}"
    assert client.post("/v1/repos/org/short/commits", content=empty_files(["a.txt"])).is_success


def test_nothing_of_a_server_reaches_the_terminal_raw(honest: Server, tmp_path: Path):
    evil = "\x1b]0;owned\x07\x1b[2J\u202egnp.exe\x9b31m"
    with lying(Liar(honest.url, error=evil)) as url:
        done = pull(url, tmp_path / "dest")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    raw = [hex(ord(c)) for c in evil if not c.isprintable() and c in said]
    assert not raw, f"a server writes to the terminal: {raw}"
