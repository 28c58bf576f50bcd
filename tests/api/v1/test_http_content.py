"""Files and tensors by HTTP: ranges, headers, and connections that break."""

import json
from pathlib import Path

import httpx
import numpy as np
import pytest
from models import make_weights, safetensors_bytes, to_bf16

from weightvault.api.sending import downloads
from weightvault.dedup.errors import Corrupt
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.transfer.push import push
from weightvault.store.object_keys import manifest_key

FILES = "/v1/repos/org/model/files"
TENSORS = "/v1/repos/org/model/tensors"


@pytest.fixture
def served(local: LocalVault, model: Path) -> bytes:
    """The weight file of a model in the vault that is served."""
    (model / "sub").mkdir()
    (model / "sub" / "a b%?#é.txt").write_text("odd name")
    (model / "empty").touch()
    push(local, model, "org/model")
    return (model / "model.safetensors").read_bytes()


def test_whole_file(web: httpx.Client, served: bytes) -> None:
    response = web.get(f"{FILES}/model.safetensors")
    assert response.status_code == 200
    assert response.content == served
    assert response.headers["content-length"] == str(len(served))
    assert response.headers["accept-ranges"] == "bytes"


def test_head_tells_what_get_gives(web: httpx.Client, served: bytes) -> None:
    head, get = (web.request(m, f"{FILES}/model.safetensors") for m in ("HEAD", "GET"))
    assert head.content == b""
    own = {"date", "x-request-id"}
    told = [{k: v for k, v in one.headers.items() if k not in own} for one in (head, get)]
    assert told[0] == told[1]


@pytest.mark.parametrize("path", ["empty", "sub/a b%?#é.txt", "config.json"])
def test_paths(web: httpx.Client, served: bytes, model: Path, path: str) -> None:
    from urllib.parse import quote

    assert web.get(f"{FILES}/{quote(path)}").content == (model / path).read_bytes()


@pytest.mark.parametrize(
    ("asked", "first", "stop"),
    [("0-0", 0, 1), ("5-1000", 5, 1001), ("9000-", 9000, None), ("-10", -10, None), ("3-3", 3, 4)],
)
def test_ranges(web: httpx.Client, served: bytes, asked: str, first: int, stop: int | None) -> None:
    response = web.get(f"{FILES}/model.safetensors", headers={"Range": f"bytes={asked}"})
    expected = served[first:stop]
    start = first % len(served)
    assert response.status_code == 206
    assert response.content == expected
    place = f"bytes {start}-{start + len(expected) - 1}/{len(served)}"
    assert response.headers["content-range"] == place
    assert response.headers["content-length"] == str(len(expected))


def test_range_beyond_the_end(web: httpx.Client, served: bytes) -> None:
    response = web.get(f"{FILES}/model.safetensors", headers={"Range": f"bytes={len(served)}-"})
    assert response.status_code == 416
    assert response.headers["content-range"] == f"bytes */{len(served)}"
    assert response.json()["error"]["code"] == "range_not_satisfiable"


def test_conditions(web: httpx.Client, served: bytes) -> None:
    url = f"{FILES}/model.safetensors"
    etag = web.head(url).headers["etag"]
    same = web.get(url, headers={"If-None-Match": etag})
    assert (same.status_code, same.content) == (304, b"")
    part = {"Range": "bytes=0-9"}
    assert web.get(url, headers={**part, "If-Range": etag}).status_code == 206
    assert web.get(url, headers={**part, "If-Range": '"other"'}).content == served


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_missing_file(web: httpx.Client, served: bytes, method: str) -> None:
    assert web.request(method, f"{FILES}/nothing.bin").status_code == 404


def test_tensor(web: httpx.Client, served: bytes) -> None:
    expected = to_bf16(make_weights(1)["layer.0.weight"])
    response = web.get(f"{TENSORS}/layer.0.weight")
    shape = tuple(map(int, response.headers["x-weightvault-shape"].split(",")))
    assert response.headers["x-weightvault-dtype"] == "BF16"
    assert np.array_equal(np.frombuffer(response.content, "<u2").reshape(shape), expected)
    part = web.get(f"{TENSORS}/layer.0.weight", headers={"Range": "bytes=7-300"})
    assert part.status_code == 206
    assert part.content == expected.tobytes()[7:301]


def test_tensor_that_several_files_have(
    web: httpx.Client, local: LocalVault, served: bytes, model: Path
) -> None:
    other = safetensors_bytes({"layer.0.bias": ("U8", (), b"\7")})
    (model / "other.safetensors").write_bytes(other)
    push(local, model, "org/model")
    both = web.get(f"{TENSORS}/layer.0.bias")
    assert both.status_code == 400
    assert both.json()["error"]["code"] == "invalid_input"
    one = web.get(f"{TENSORS}/layer.0.bias", params={"file": "other.safetensors"})
    assert one.content == b"\7"
    assert one.headers["x-weightvault-shape"] == ""
    missing = web.get(f"{TENSORS}/no.such")
    assert missing.json()["error"]["code"] == "tensor_not_found"


def make_small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has files read piece by piece that would otherwise be read whole."""
    monkeypatch.setattr(downloads, "_FIRST_BYTES", 100)
    monkeypatch.setattr(downloads, "_WINDOW_BYTES", 100)


def test_a_failure_on_the_way_breaks_the_connection(
    live: str, local: LocalVault, served: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_args):
        yield served[:100]
        raise Corrupt("the rest is damaged")

    make_small_windows(monkeypatch)
    monkeypatch.setattr(local, "serve_entry", damaged)
    with httpx.Client(trust_env=False) as client:
        with pytest.raises(httpx.RemoteProtocolError, match="peer closed"):
            client.get(f"{live}{FILES}/model.safetensors")
        assert json.loads(client.get(f"{live}/health").content)["status"] == "ok"


def test_a_client_that_goes_away_ends_the_reading(
    live: str, local: LocalVault, served: bytes, monkeypatch: pytest.MonkeyPatch, wait_until
) -> None:
    closed: list[bool] = []

    def endless(*_args):
        try:
            while True:
                yield b"x"
        finally:
            closed.append(True)

    make_small_windows(monkeypatch)
    monkeypatch.setattr(local, "serve_entry", endless)
    with (
        httpx.Client(trust_env=False) as client,
        client.stream("GET", f"{live}{FILES}/model.safetensors") as response,
    ):
        next(response.iter_raw())
    wait_until(lambda: bool(closed))


def test_a_manifest_comes_as_it_is_stored(
    web: httpx.Client, local: LocalVault, served: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weightvault.dedup.repository.journal.replay.parse_manifest", None)
    response = web.get("/v1/repos/org/model/manifest")
    commit = json.loads(response.headers["x-weightvault-commit"])
    stored = local.backend.get(manifest_key(commit["manifest"]))
    assert response.content == stored
    assert response.headers["etag"] == f'"{commit["manifest"]}"'
