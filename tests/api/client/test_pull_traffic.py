"""What a pull from a server receives: nothing that is here already, and never a base."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from models import make_weights, read_folder, tune, write_model

from weightvault.api.client.http_vault import HttpVault
from weightvault.api.requests.tokens import create_token
from weightvault.codecs.frame import parse_header
from weightvault.dedup.errors import Unreachable
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.reading.held.chunk_cache import ChunkCache
from weightvault.dedup.transfer.pull import PullResult, pull
from weightvault.dedup.transfer.push import push
from weightvault.dedup.transfer.sent_frames import offered_frames

SHAPES = {"embed.weight": (512, 128), "layer.weight": (256, 128), "layer.bias": (128,)}
BASE = make_weights(1, SHAPES)
RAW = sum(value.size * 2 for value in BASE.values())
# Of random BF16 weights; updates of this size change a tenth of the bits.
ALONE, DELTA = 0.85, 0.45


@pytest.fixture
def family(local: LocalVault, tmp_path: Path) -> list[str]:
    """A base and two tunes, deltas on it, in the vault that is served."""
    names = ["org/base", "org/tune-a", "org/tune-b"]
    for number, name in enumerate(names):
        weights = tune(BASE, number) if number else BASE
        folder = write_model(tmp_path / name, weights, f"# {name}\n")
        push(local, folder, name, base="org/base" if number else None)
    digests = local.resolve("org/tune-a").manifest.digests()
    assert any(place.inputs for place in local.catalogue.locate(list(digests)).values())
    return names


@pytest.fixture
def cache(tmp_path: Path) -> ChunkCache:
    return ChunkCache(tmp_path / "chunks", 1 << 30)


@pytest.fixture(params=["reads all", "one namespace"])
def client(
    request: pytest.FixtureRequest, live: str, local: LocalVault, tmp_path: Path
) -> Iterator[HttpVault]:
    """The vault as each kind of token sees it."""
    create_token(local, "ops", "admin")
    token = create_token(local, "me", "write", "org").secret
    ops = create_token(local, "all", "read").secret
    vault = HttpVault(live, token=ops if request.param == "reads all" else token)
    yield vault
    vault.close()


@pytest.fixture
def plain(live: str) -> Iterator[HttpVault]:
    """The vault as everybody sees it while there is no token."""
    with closing(HttpVault(live)) as vault:
        yield vault


def pull_checked(vault: HttpVault, repo: str, tmp_path: Path, **options: Any) -> PullResult:
    """Pulls into an empty folder and compares all files with what was pushed."""
    out = tmp_path / "out"
    shutil.rmtree(out, ignore_errors=True)
    result = pull(vault, repo, out, **options)
    assert read_folder(out) == read_folder(tmp_path / repo)
    return result


def test_a_delta_is_pulled_standalone(
    client: HttpVault, family: Sequence[str], tmp_path: Path
) -> None:
    for name in family:
        assert pull_checked(client, name, tmp_path).received < ALONE * RAW


def test_relatives_are_received_as_what_differs(
    client: HttpVault, family: Sequence[str], tmp_path: Path, cache: ChunkCache
) -> None:
    first, second, third = (
        # Whichever comes first, and without the base of them all.
        pull_checked(client, name, tmp_path, cache=cache).received
        for name in (family[1], family[2], family[0])
    )
    assert first < ALONE * RAW
    assert second < DELTA * RAW
    assert third < DELTA * RAW
    again = pull_checked(client, family[1], tmp_path, cache=cache)
    assert again.received == 0
    assert again.reused > RAW


def test_what_stands_in_the_folder_is_a_base(
    client: HttpVault, family: Sequence[str], local: LocalVault, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    pull(client, "org/base", out)
    source = tmp_path / "org/base"
    changed = tune(BASE, 5) | {"embed.weight": BASE["embed.weight"]}
    write_model(source, changed)
    push(local, source, "org/base")
    result = pull(client, "org/base", out)
    assert read_folder(out) == read_folder(source)
    assert result.received < DELTA * RAW - SHAPES["embed.weight"][0] * 64
    assert result.reused >= BASE["embed.weight"].size * 2


def test_files_of_other_tools_are_used(
    plain: HttpVault, family: Sequence[str], tmp_path: Path
) -> None:
    """A cache of huggingface_hub has links in a snapshot, to files of other names."""
    blob = tmp_path / "hub" / "models--org--x" / "blobs" / "1234"
    link = tmp_path / "hub" / "models--org--x" / "snapshots" / "9a" / "model.safetensors"
    for path in (blob, link):
        path.parent.mkdir(parents=True)
    shutil.copy(tmp_path / "org/tune-a" / "model.safetensors", blob)
    link.symlink_to(blob)
    reuse = [tmp_path / "hub"]
    same = pull_checked(plain, "org/tune-a", tmp_path, reuse=reuse)
    assert same.received < 2000
    other = pull_checked(plain, "org/tune-b", tmp_path, reuse=reuse)
    assert other.received < DELTA * RAW


def test_no_link_of_the_destination_is_read(
    plain: HttpVault, family: Sequence[str], tmp_path: Path
) -> None:
    out = tmp_path / "linked"
    out.mkdir()
    (out / "model.safetensors").symlink_to(tmp_path / "org/base" / "model.safetensors")
    result = pull(plain, "org/tune-a", out)
    assert result.received > DELTA * RAW
    assert read_folder(out) == read_folder(tmp_path / "org/tune-a")


def test_damage_of_the_cache_harms_nobody(
    plain: HttpVault, family: Sequence[str], tmp_path: Path, cache: ChunkCache
) -> None:
    pull_checked(plain, "org/base", tmp_path, cache=cache)
    files = [path for path in (tmp_path / "chunks").rglob("*") if len(path.name) == 64]
    assert len(files) > 2
    for number, path in enumerate(files):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(b"" if number == 0 else data)
    # As bases, and as what is asked for.
    pull_checked(plain, "org/tune-a", tmp_path, cache=cache)
    assert pull_checked(plain, "org/base", tmp_path, cache=cache).received > 0


def test_a_cache_that_lies_is_found_out(
    plain: HttpVault, family: Sequence[str], tmp_path: Path, cache: ChunkCache
) -> None:
    """Frames that somebody wrote there with sums that are right."""
    pull_checked(plain, "org/tune-a", tmp_path, cache=cache)
    files = [path for path in (tmp_path / "chunks").rglob("*") if len(path.name) == 64]
    one, other = sorted(files, key=lambda path: path.stat().st_size)[-2:]
    shutil.copy(one, other)
    assert pull_checked(plain, "org/tune-a", tmp_path, cache=cache).received > 0


def test_a_pull_goes_on_where_a_connection_broke(
    plain: HttpVault,
    family: Sequence[str],
    tmp_path: Path,
    cache: ChunkCache,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read, asked = plain.read_offered, []

    def break_off(repo: str, revision: str, digests: Sequence[bytes], offers: Any) -> Iterator[Any]:
        asked.append(len(digests))
        yield next(iter(read(repo, revision, digests, offers)))
        if len(digests) > 1:
            raise Unreachable("gone")

    monkeypatch.setattr(plain, "read_offered", break_off)
    pull_checked(plain, "org/tune-a", tmp_path, cache=cache)
    assert asked == list(range(asked[0], 0, -1))
    assert asked[0] > 2


def test_a_server_encodes_no_more_than_its_allowance(
    client: HttpVault, family: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offered_frames, "ENCODED_BYTES", 1000)
    assert pull_checked(client, "org/tune-a", tmp_path).received > 0.9 * RAW


def test_offers_are_used_within_what_may_be_read(
    live: str, family: Sequence[str], local: LocalVault
) -> None:
    """Who knows a digest learns nothing: a chunk of another namespace is as one that is not."""
    create_token(local, "ops", "admin")
    mine, theirs = (create_token(local, name, "write", name).secret for name in ("org", "other"))
    push(local, Path(local.scratch).parent / "org" / "base", "secret/base")
    tune_a, base = (local.resolve(name).manifest for name in ("org/tune-a", "org/base"))
    wanted, *_ = sorted(tune_a.digests(), key=lambda d: -tune_a.digests()[d])
    sizes = base.digests()
    near, *_ = sorted(sizes, key=lambda d: -sizes[d])

    def ask(repo: str, token: str, *offered: bytes) -> httpx.Response:
        body = {"digests": [wanted.hex()], "offers": {wanted.hex(): [d.hex() for d in offered]}}
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.post(f"{live}/v1/repos/{repo}/frames", json=body, headers=headers)

    assert parse_header(ask("org/tune-a", mine, near).content[8:]).base_digest == near
    push(local, Path(local.scratch).parent / "org" / "tune-a", "other/copy")
    unknown, private = ask("other/copy", theirs, bytes(32)), ask("other/copy", theirs, near)
    assert unknown.status_code == 200
    assert unknown.content == private.content == ask("other/copy", theirs).content
    assert parse_header(unknown.content[8:]).base_digest is None


def test_too_many_offers_are_refused(live: str, family: Sequence[str]) -> None:
    digest = bytes(32).hex()
    for offers in ({digest: [digest] * 5}, {"x": []}, {digest: ["y"]}, [digest]):
        body = {"digests": [], "offers": offers}
        assert httpx.post(f"{live}/v1/repos/org/base/frames", json=body).status_code == 422


def test_the_library_keeps_and_uses_chunks(
    live: str, family: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import weightvault as wv

    asked: list[int] = []
    read = HttpVault.read_offered

    def count(self: HttpVault, repo: str, revision: str, digests: Any, offers: Any) -> Any:
        asked.append(len(digests))
        return read(self, repo, revision, digests, offers)

    monkeypatch.setattr(HttpVault, "read_offered", count)
    with wv.open(live) as vault:
        for expected in (True, False):
            asked.clear()
            with vault.safe_open("org/tune-a") as file:
                found = dict(file.items())
            assert (sum(asked) > 0) == expected
            assert found["embed.weight"].shape == (512, 128)
            assert isinstance(found["embed.weight"], np.ndarray)
