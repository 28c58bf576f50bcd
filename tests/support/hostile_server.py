"""A server that speaks our wire and lies: names, sizes, bodies and addresses are the attacker's."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from blake3 import blake3

from weightvault.api.protocol.wire import COMMIT_HEADER, VERSION_HEADER
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.model.files.manifest import Manifest, pack_manifest
from weightvault.dedup.vault import Commit

Answer = tuple[int, dict[str, str], Iterator[bytes]]


def json_answer(document: Any, status: int = 200) -> Answer:
    """An answer as our server gives it."""
    return status, {}, iter([json.dumps(document).encode()])


@dataclass
class Liar:
    """What the server says; `answers` by method and the end of the path come before the rest.
    `seen` has the method, path and headers of each request."""

    honest: LocalVault
    manifest: Manifest
    commit: Commit
    answers: dict[tuple[str, str], Callable[[], Answer]] = field(default_factory=dict)
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        """Returns the answer to a request."""
        for (wanted, end), make in self.answers.items():
            if method == wanted and path.partition("?")[0].endswith(end):
                return make()
        if path.partition("?")[0].endswith("/manifest"):
            data = pack_manifest(self.manifest)
            head = {"ETag": f'"{blake3(data).hexdigest()}"'}
            return 200, {**head, COMMIT_HEADER: json.dumps(asdict(self.commit))}, iter([data])
        if path.partition("?")[0].endswith("/frames"):
            wanted = [bytes.fromhex(digest) for digest in json.loads(body)["digests"]]
            frames = self.honest.read_frames(self.commit.repo, self.commit.id, wanted)
            return 200, {}, (len(frame).to_bytes(8, "little") + frame for frame in frames)
        return json_answer({"error": {"code": "x", "message": path, "hint": None}}, 404)


def rename_files(manifest: Manifest, names: dict[str, str]) -> Manifest:
    """The manifest with other paths: `names` has the new one of each old one."""
    files = [replace(f, path=names.get(f.path, f.path)) for f in manifest.files]
    return replace(manifest, files=tuple(sorted(files, key=lambda f: f.path)))


@contextmanager
def lying(liar: Liar) -> Iterator[str]:
    """Runs the server on a free port of this machine; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            liar.seen.append((self.command, self.path, dict(self.headers)))
            status, headers, pieces = liar.answer(self.command, self.path, body)
            self.send_response(status)
            for name, value in {VERSION_HEADER: "0", **headers, "Connection": "close"}.items():
                self.send_header(name, value)
            self.end_headers()
            # The client may have had enough.
            try:
                for piece in pieces:
                    self.wfile.write(piece)
            except OSError:
                pass
            self.close_connection = True

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _respond  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
