"""What answers tell browsers, caches, and strangers."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_server import serving
from models import safetensors_bytes
from sites import tags_of
from slow_clients import ask
from vaults import open_local

from weightvault.api.hub.reading import lists as reading_lists
from weightvault.api.requests.settings import ServerSettings
from weightvault.api.requests.tokens import create_token
from weightvault.api.sending.headers import attachment
from weightvault.api.server.app import create_app
from weightvault.dedup.errors import StorageFull, VaultError
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.transfer.push import push
from weightvault.dedup.transfer.refs import History
from weightvault.dedup.transfer.uploads import IncomingFiles
from weightvault.store.errors import AccessDenied, Unavailable
from weightvault.store.errors import StorageFull as StoreFull

# As nobody who means well calls a file.
ODD = "w\"x; filename=evil.exe; ä'.txt"
FILES = {
    "page.html": b"<script>alert(1)</script>",
    "sub/picture.svg": b"<svg onload='alert(1)'/>",
    ODD: b"text",
    "model.safetensors": safetensors_bytes({"layer/w.html": ("U8", (4,), b"1234")}),
}


@dataclass
class Hub:
    """A server with a public repo, and a token for it."""

    url: str
    vault: LocalVault
    commit: str
    secret: str

    def ask(self, path: str, method: str = "GET", **options) -> httpx.Response:
        """Asks without a token, unless it is given."""
        return httpx.request(method, self.url + path, trust_env=False, timeout=60, **options)

    @property
    def token(self) -> dict[str, str]:
        """The header that shows the token."""
        return {"Authorization": f"Bearer {self.secret}"}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """See Hub."""
    with ExitStack() as stack:
        vault = open_local(tmp_path / "served")
        stack.callback(vault.close)
        folder = tmp_path / "model"
        for name, content in FILES.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        made = push(vault, folder, "org/model")
        History(vault, IncomingFiles(vault)).set_public("org/model", True)
        secret = create_token(vault, "mine", "write").secret
        app = create_app(vault, ServerSettings(anonymous_reads="public"))
        yield Hub(stack.enter_context(serving(app)), vault, made.commit.id, secret)


def content_addresses(revision: str) -> list[str]:
    """Every address that gives content of the repo out, for each file where it has one."""
    quoted = [httpx.URL("/").copy_with(path=f"/{name}").raw_path.decode()[1:] for name in FILES]
    repo = "/v1/repos/org/model"
    files = [
        pattern.format(name)
        for name in quoted
        for pattern in (
            f"{repo}/files/{{}}?revision={revision}",
            f"/org/model/resolve/{revision}/{{}}",
            f"/org/model/raw/{revision}/{{}}",
            f"/api/models/org/model/resolve/{revision}/{{}}",
            f"/org/model/download/{revision}/{{}}",
        )
    ]
    whole = [f"{repo}/manifest?revision={revision}"]
    tensors = [f"{repo}/tensors/layer/w.html?revision={revision}"]
    oid = sha256(FILES["model.safetensors"]).hexdigest()
    return [*files, *whole, *tensors, f"/org/model.git/info/lfs/objects/{oid}"]


def test_content_is_saved_and_never_shown(hub: Hub) -> None:
    for address in content_addresses("main"):
        found = hub.ask(address)
        assert found.status_code == 200, address
        headers = found.headers
        assert headers["content-disposition"].startswith("attachment; filename="), address
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-type"] == "application/octet-stream", address
        assert "sandbox" in headers["content-security-policy"]
        assert "Authorization" in headers["vary"]


def test_caches_keep_what_is_everybodys_alone(hub: Hub) -> None:
    for address in content_addresses(hub.commit):
        assert "immutable" in hub.ask(address).headers["cache-control"], address
        mine = hub.ask(address, headers=hub.token).headers["cache-control"]
        assert mine == "private, no-store", address
        cookie = {"Cookie": "weightvault-session=x"}
        assert hub.ask(address, headers=cookie).headers["cache-control"] == "private, no-store"
    for address in content_addresses("main")[:-1]:
        assert hub.ask(address).headers["cache-control"] == "no-cache", address


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/docs",
        "/openapi.json",
        "/health",
        "/metrics",
        "/v1/repos",
        "/v1/nothing",
        "/v1/repos/org/no-such",
        "/api/models",
        "/api/models/org/model",
        "/api/models/org/no-such",
        "/org/model",
        "/org/model/tree/main",
        "/-/static/style.css",
        "/-/sign-in",
        "/no-such-page",
    ],
)
def test_every_answer_is_of_its_type_and_frames_nowhere(hub: Hub, path: str) -> None:
    for sent in ({}, hub.token):
        headers = hub.ask(path, headers=sent).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["cache-control"]
        assert {"authorization", "cookie"} <= {
            each.strip().lower() for each in headers["vary"].split(",")
        }
    if "static" not in path:
        private = hub.ask(path, headers=hub.token).headers["cache-control"]
        assert private.startswith("private"), path


def test_an_unexpected_failure_has_the_headers_too(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args) -> None:
        raise RuntimeError("unexpected")

    monkeypatch.setattr(hub.vault, "list_repos_of", fail)
    found = hub.ask("/v1/repos", headers=hub.token)
    assert found.status_code == 500
    assert found.headers["x-content-type-options"] == "nosniff"
    assert found.headers["cache-control"] == "private, no-store"


@given(st.text(min_size=1, max_size=300))
def test_a_name_is_one_word_of_a_header(name: str) -> None:
    header = attachment(name)
    plain, whole = re.fullmatch(
        r"attachment; filename=\"([A-Za-z0-9._+@ -]+)\"; filename\*=UTF-8''([A-Za-z0-9._~%-]+)",
        header,
    ).groups()  # type: ignore[union-attr]
    assert plain
    assert whole
    assert all(32 <= ord(each) < 127 for each in header)


def test_the_reference_loads_nothing_from_elsewhere(hub: Hub) -> None:
    found = hub.ask("/docs")
    assert found.status_code == 200
    policy = found.headers["content-security-policy"]
    assert policy == hub.ask("/").headers["content-security-policy"]
    assert "unsafe" not in policy
    for tag, attributes in tags_of(found.text):
        for name in ("src", "href", "action"):
            assert (attributes.get(name) or "/").startswith(("/", "#")), attributes
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        assert tag not in ("style", "iframe", "object")
    for path in hub.ask("/openapi.json").json()["paths"]:
        assert path in found.text
    # Nothing else shows the same with other means.
    assert hub.ask("/redoc").status_code == 404


SECRET_PLACES = ("/srv/vault", "10.11.12.13", "bucket-of-mine", "key id AKIA")


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (StoreFull("cannot write /srv/vault/objects/packs/x: No space left on device"), 507),
        (OSError(errno.ENOSPC, "No space left on device", "/srv/vault/upload-1"), 507),
        (Unavailable("connection to server at 10.11.12.13, port 5432 failed"), 503),
        (AccessDenied("bucket-of-mine: key id AKIA may not PutObject"), 403),
    ],
)
def test_errors_of_the_machine_do_not_describe_it(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, raised: Exception, status: int
) -> None:
    def fail(*_args, **_options):
        raise raised

    monkeypatch.setattr(hub.vault.backend, "put_file", fail)
    monkeypatch.setattr(hub.vault.backend, "put", fail)
    monkeypatch.setattr(hub.vault.backend, "get", fail)
    monkeypatch.setattr(hub.vault.catalogue, "last_entry", fail)
    commit = b'{"key": "header", "value": {"summary": "x"}}\n' + (
        b'{"key": "file", "value": {"path": "a.txt", "content": "YWJj", "encoding": "base64"}}\n'
    )
    answers = [
        hub.ask("/api/models/org/model/commit/main", "POST", content=commit, headers=hub.token),
        hub.ask("/v1/repos/org/model/files/page.html", headers=hub.token),
        hub.ask("/org/model/resolve/main/page.html", headers=hub.token),
        hub.ask("/health"),
        hub.ask("/v1/check?progress=true", headers=hub.token),
    ]
    assert {answers[n].status_code for n in (0, 1, 2)} == {status}
    for answer in answers:
        told = answer.text + str(answer.headers)
        assert not any(place in told for place in SECRET_PLACES), answer.text
        assert str(hub.vault.scratch) not in told


def test_the_folder_of_the_vault_is_in_no_message(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args, **_options):
        raise VaultError(f"cannot open {hub.vault.scratch}/catalogue.sqlite", "look there")

    monkeypatch.setattr(hub.vault, "list_repos_of", fail)
    monkeypatch.setattr(reading_lists, "list_lines", fail)
    for path in ("/v1/repos", "/api/models"):
        found = hub.ask(path, headers=hub.token)
        assert found.status_code == 500
        assert str(hub.vault.scratch) not in found.text
        assert "cannot open" in found.text


def test_what_a_client_names_is_told_as_it_is(hub: Hub) -> None:
    found = hub.ask("/v1/repos/org/model/files/etc/passwd", headers=hub.token)
    assert "'etc/passwd'" in found.json()["error"]["message"]


def test_a_full_disk_is_told_in_words(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args) -> None:
        raise StorageFull("nothing but words", "make room")

    monkeypatch.setattr(hub.vault, "list_repos_of", fail)
    found = hub.ask("/v1/repos", headers=hub.token)
    assert found.status_code == 507
    assert found.json()["error"] == {
        "code": "storage_full",
        "message": "nothing but words",
        "hint": "make room",
    }


def test_odd_bytes_in_a_path_are_no_header_of_ours(hub: Hub) -> None:
    parts = httpx.URL(hub.url)
    with socket.create_connection((parts.host, parts.port), timeout=30) as made:
        made.sendall(ask("/org/model/resolve/main/a%0d%0aX-Evil:%20yes", "Connection: close"))
        answer = b""
        while piece := made.recv(65536):
            answer += piece
    assert b"\r\nx-evil" not in answer.lower()
