"""Foreign uploads: verified, durable, found again by those who may, kept from collections."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from models import bf16_file, make_weights, tune
from vaults import FailingWrites, open_local

from weightvault.codecs.frame import parse_header
from weightvault.dedup.errors import InvalidUpload, VaultError
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance import background_encode
from weightvault.dedup.maintenance.background_encode import encode_some
from weightvault.dedup.maintenance.gc import Collector
from weightvault.dedup.maintenance.rebuild_catalogue import rebuild_catalogue
from weightvault.dedup.model.files.manifest import Manifest
from weightvault.dedup.model.files.segments import Tensor
from weightvault.dedup.transfer.push import push
from weightvault.dedup.transfer.refs import AddFile, DeleteFile, History, Message
from weightvault.dedup.transfer.uploads import IncomingFiles
from weightvault.store.backends.open import open_backend
from weightvault.store.catalogue.catalogue import open_catalogue
from weightvault.store.catalogue.files.loose_files import find_loose
from weightvault.store.catalogue.queues.encode_queue import claim_chunks, count_uncoded
from weightvault.store.errors import Unavailable
from weightvault.store.object_keys import manifest_key

REPO = "org/model"
DAY = 24 * 3600.0


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def pieces(data: bytes, length: int = 1000) -> Iterator[bytes]:
    return (data[i : i + length] for i in range(0, len(data), length))


def content(incoming: IncomingFiles, file, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join(bytes(piece) for piece in incoming.read(file, start, stop))


WEIGHTS = bf16_file(make_weights(1))
SAMPLES = {
    "weights": WEIGHTS,
    "empty": b"",
    "text": b"a small file\n" * 3,
    "opaque": np.random.default_rng(5).bytes(300_000),
    "looks like weights": (9).to_bytes(8, "little") + b"{not json" + bytes(100),
}


@pytest.mark.parametrize("data", SAMPLES.values(), ids=SAMPLES.keys())
def test_bytes_come_back(local: LocalVault, data: bytes):
    incoming = IncomingFiles(local)
    made = incoming.add(pieces(data), REPO, sha256=sha256(data), size=len(data))
    assert made.size == len(data)
    git = hashlib.sha1(b"blob %d\0" % len(data) + data)
    assert (made.sha256, made.git_sha1) == (sha256(data), git.digest())
    assert content(incoming, made) == data
    assert content(incoming, made, 10, 30) == data[10:30]
    assert content(incoming, made, 10, 10**9) == data[10:]


def test_safetensors_are_recognised_without_a_name_and_stored_raw(local: LocalVault):
    made = IncomingFiles(local).add([WEIGHTS], REPO)
    tensors = [s for s in made.entry.segments if isinstance(s, Tensor)]
    assert {t.name for t in tensors} == set(make_weights(1))
    digests = [digest for tensor in tensors for digest in tensor.chunks]
    frames = local._fetch_any(digests)
    assert {parse_header(frame).codec for frame in frames} == {"raw"}


def test_inline_codes_at_once(local: LocalVault):
    made = IncomingFiles(local, inline=True).add([WEIGHTS], REPO)
    largest = max(made.entry.segments, key=lambda segment: segment.size)
    assert isinstance(largest, Tensor)
    frames = local._fetch_any(largest.chunks)
    assert {parse_header(frame).codec for frame in frames} == {"planes"}


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ({"sha256": sha256(b"other")}, b"content"),
        ({"size": 6}, b"content"),
        ({"size": 8}, b"content"),
        ({"sha256": sha256(b"content"), "size": 100}, b"content"),
    ],
)
def test_what_does_not_add_up_leaves_nothing(local: LocalVault, said: dict, sent: bytes):
    with pytest.raises(InvalidUpload):
        IncomingFiles(local).add(pieces(sent, 3), REPO, **said)
    assert list(local.backend.list("packs/")) == []
    assert [path.name for path in local.scratch.glob("incoming-*")] == []


def test_found_only_by_those_who_may(local: LocalVault):
    incoming = IncomingFiles(local)
    incoming.add([WEIGHTS], REPO)
    assert incoming.get(sha256(WEIGHTS), REPO)
    assert incoming.get(sha256(WEIGHTS), "org/other") is None
    assert incoming.find(sha256(WEIGHTS), lambda repo: repo == REPO)
    assert incoming.find(sha256(WEIGHTS), lambda repo: False) is None
    assert incoming.find(sha256(b"never seen"), lambda repo: True) is None


def test_found_in_commits_too(local: LocalVault):
    incoming = IncomingFiles(local)
    made = incoming.add([WEIGHTS], REPO)
    local.commit("org/holder", "main", Manifest((made.entry,), made.chunk_bytes))
    found = incoming.get(sha256(WEIGHTS), "org/holder")
    assert found is not None
    assert content(incoming, found) == WEIGHTS


def test_another_server_and_a_new_catalogue_see_it(local: LocalVault, tmp_path: Path):
    IncomingFiles(local).add([WEIGHTS], REPO)
    other = open_local(tmp_path / "vault")
    second = IncomingFiles(other)
    found = second.get(sha256(WEIGHTS), REPO)
    assert found
    assert content(second, found) == WEIGHTS
    rebuild_catalogue(other.backend, other.catalogue)
    found = second.get(sha256(WEIGHTS), REPO)
    assert found
    assert content(second, found) == WEIGHTS
    other.close()


def test_a_damaged_manifest_takes_its_own_file_along_and_no_other(local: LocalVault):
    uploads = IncomingFiles(local)
    lost, kept = (uploads.add([data], "org/m") for data in (b"lost", b"kept"))
    (row,) = find_loose(local.catalogue, [lost.sha256], time.time())
    local.backend.put(manifest_key(row.manifest), b"damaged")
    rebuild_catalogue(local.backend, local.catalogue)
    assert uploads.get(lost.sha256, "org/m") is None
    assert uploads.get(kept.sha256, "org/m") == kept
    assert uploads.get(uploads.add([b"lost"], "org/m").sha256, "org/m") == lost


def test_again_changes_nothing(local: LocalVault):
    incoming = IncomingFiles(local)
    incoming.add([WEIGHTS], REPO)
    before = [info.key for info in local.backend.list()]
    assert incoming.add([WEIGHTS], REPO) == incoming.get(sha256(WEIGHTS), REPO)
    assert [info.key for info in local.backend.list()] == before


def test_kept_from_collections_until_it_expires(local: LocalVault):
    incoming = IncomingFiles(local, keep_seconds=20 * DAY)
    made = incoming.add([WEIGHTS], REPO)

    start = time.time()
    for days in (0, 10, 19):
        Collector(local, grace_seconds=0, now=lambda days=days: start + days * DAY).run()
        assert content(incoming, made) == WEIGHTS
    for days in (21, 40):
        Collector(local, grace_seconds=0, now=lambda days=days: start + days * DAY).run()
    assert incoming.get(sha256(WEIGHTS), REPO) is None
    assert list(local.backend.list("packs/")) == []
    assert list(local.backend.list("manifests/")) == []
    # And what has expired in the journal does not come back, nor stop anything.
    rebuild_catalogue(local.backend, local.catalogue)
    assert content(incoming, incoming.add([WEIGHTS], REPO)) == WEIGHTS


def test_uploads_of_a_deleted_repo_go_with_it(local: LocalVault):
    incoming = IncomingFiles(local)
    made = incoming.add([WEIGHTS], REPO)
    local.commit(REPO, "main", Manifest((made.entry,), made.chunk_bytes))
    local.delete_repo(REPO)
    assert incoming.get(sha256(WEIGHTS), REPO) is None


def test_a_write_that_fails_leaves_what_a_second_try_mends(tmp_path: Path):
    at = 0
    while True:
        failing: list[FailingWrites] = []

        def wrap(inner, at=at, failing=failing):
            failing.append(FailingWrites(inner, at, Unavailable("no")))
            return failing[0]

        broken = open_local(tmp_path / str(at), wrap)
        try:
            IncomingFiles(broken).add([WEIGHTS], REPO)
            broken.close()
            break
        except VaultError:
            broken.close()
        again = open_local(tmp_path / str(at))
        incoming = IncomingFiles(again)
        assert incoming.get(sha256(WEIGHTS), REPO) is None
        assert content(incoming, incoming.add([WEIGHTS], REPO)) == WEIGHTS
        again.close()
        at += 1
    assert at >= 4


def commit_upload(vault: LocalVault, repo: str, data: bytes) -> None:
    made = IncomingFiles(vault).add([data], repo)
    entry = replace(made.entry, path="model.safetensors")
    vault.commit(repo, "main", Manifest((entry,), made.chunk_bytes))


def test_what_waits_is_coded_as_by_a_push(tmp_path: Path):
    shapes = {"a": (256, 96), "b": (256, 64), "c": (64,)}
    base = make_weights(1, shapes)
    files = {"org/base": bf16_file(base), "org/tune": bf16_file(tune(base, 2))}
    pushed, uploaded = open_local(tmp_path / "pushed"), open_local(tmp_path / "uploaded")
    for repo, data in files.items():
        path = tmp_path / repo / "model.safetensors"
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        push(pushed, path, repo)
        commit_upload(uploaded, repo, data)
    assert count_uncoded(uploaded.catalogue) > 0
    before = uploaded.report().frames
    while encode_some(uploaded):
        pass
    assert count_uncoded(uploaded.catalogue) == 0
    assert uploaded.report().frames == pushed.report().frames < before
    for repo, data in files.items():
        read = uploaded.read_file(repo, "main", "model.safetensors")[2]
        assert b"".join(map(bytes, read)) == data
    assert uploaded.check().problems == ()
    rebuild_catalogue(uploaded.backend, uploaded.catalogue)
    assert uploaded.report().frames == pushed.report().frames
    pushed.close()
    uploaded.close()


def test_a_family_that_uploads_double_is_coded_around_its_centre(local: LocalVault):
    base = make_weights(1, {"a": (96, 64)})
    first, *others = (tune(base, seed, 1e-3 if seed == 2 else 1e-4) for seed in range(2, 5))
    for i, weights in enumerate([first, *others, base]):
        commit_upload(local, f"org/m{i}", bf16_file(weights))
    # All wait, and are coded in one go.
    while encode_some(local):
        pass
    tensors = [next(local.resolve(f"org/m{i}").manifest.files[0].tensors) for i in range(4)]
    centre = tensors[-1].chunks[0]
    places = local.catalogue.locate([t.chunks[0] for t in tensors])
    assert [places[t.chunks[0]].base for t in tensors] == [centre, centre, centre, None]
    assert local.check().problems == ()


def test_what_no_commit_has_waits(local: LocalVault):
    IncomingFiles(local).add([WEIGHTS], REPO)
    assert encode_some(local) == 0
    commit_upload(local, REPO, WEIGHTS)
    assert encode_some(local) > 0


def test_what_somebody_is_at_is_not_given_twice(local: LocalVault):
    commit_upload(local, REPO, WEIGHTS)
    assert claim_chunks(local.catalogue, 100.0, 200.0, 10, 1 << 30)
    assert claim_chunks(local.catalogue, 150.0, 250.0, 10, 1 << 30) == []
    assert claim_chunks(local.catalogue, 201.0, 300.0, 10, 1 << 30)


def test_bytes_that_no_codec_makes_smaller_stay_as_they_are(local: LocalVault):
    data = np.random.default_rng(3).bytes(200_000)
    commit_upload(local, REPO, data)
    assert encode_some(local) > 0
    assert encode_some(local) == 0
    assert b"".join(map(bytes, local.read_file(REPO, "main", "model.safetensors")[2])) == data


def test_a_catalogue_built_anew_knows_what_waits(local: LocalVault):
    commit_upload(local, REPO, WEIGHTS)
    before = count_uncoded(local.catalogue)
    rebuild_catalogue(local.backend, local.catalogue)
    assert count_uncoded(local.catalogue) == before > 0
    assert encode_some(local) == before


def test_parts_that_nobody_completed_go_after_a_day(local: LocalVault):
    local.backend.put("uploads/abc/00001", b"part")
    now = time.time()
    Collector(local, grace_seconds=0, now=lambda: now + 0.9 * DAY).run()
    assert local.backend.exists("uploads/abc/00001")
    Collector(local, grace_seconds=0, now=lambda: now + 1.1 * DAY).run()
    assert not local.backend.exists("uploads/abc/00001")


def test_an_edit_is_coded_against_what_it_was(tmp_path: Path):
    """Content says too little of texts: the commit before does."""
    words = np.random.default_rng(2).integers(0, 5000, 60_000)
    text = " ".join(f"token{word}" for word in words).encode()
    states = (text, text.replace(b"token4321", b"edited"))
    pushed, uploaded = open_local(tmp_path / "pushed"), open_local(tmp_path / "uploaded")
    for data in states:
        path = tmp_path / "vocab.txt"
        path.write_bytes(data)
        push(pushed, path, REPO)
        made = IncomingFiles(uploaded).add([data], REPO, name="vocab.txt")
        entry = replace(made.entry, path="vocab.txt")
        uploaded.commit(REPO, "main", Manifest((entry,), made.chunk_bytes))
        while encode_some(uploaded):
            pass
    assert uploaded.report().frames == pushed.report().frames
    pushed.close()
    uploaded.close()


def test_what_others_are_coded_against_meanwhile_stands_alone(local: LocalVault, tmp_path: Path):
    shapes = {"a": (256, 96)}
    base = make_weights(1, shapes)
    commit_upload(local, "org/older", bf16_file(tune(base, 3)))
    while encode_some(local):
        pass
    commit_upload(local, "org/base", bf16_file(base))
    path = tmp_path / "model.safetensors"
    path.write_bytes(bf16_file(tune(base, 2)))
    push(local, path, "org/tune")
    while encode_some(local):
        pass
    for repo in ("org/older", "org/base", "org/tune"):
        digests = list(local.resolve(repo).manifest.digests())
        headers = map(parse_header, local.fetch_frames(digests))
        assert not [h for h in headers if h.codec == "raw" and h.raw_bytes > 1000]
    assert local.check().problems == ()


def test_on_a_database_of_many_servers(postgres_url: str, tmp_path: Path):
    """The same statements, by another database: two servers take in, commit and code."""
    backend = open_backend(str(tmp_path / "objects"))
    servers = [
        LocalVault(backend, open_catalogue(postgres_url), scratch=tmp_path) for _ in range(2)
    ]
    first, second = (History(vault, IncomingFiles(vault)) for vault in servers)
    first.create_repo(REPO, Message("initial commit"))
    IncomingFiles(servers[0]).add([WEIGHTS], REPO)
    found = IncomingFiles(servers[1]).get(sha256(WEIGHTS), REPO)
    assert found
    second.commit(REPO, "main", [AddFile("model.safetensors", found)], Message("weights"))
    first.create_branch(REPO, "dev/x", "main")
    first.commit(REPO, "dev/x", [DeleteFile("model.safetensors")], Message("none"))
    second.create_tag(REPO, "v1", "main", None)
    assert len(first.log(REPO, "v1")) == 2
    with ThreadPoolExecutor(2) as pool:
        coded = sum(pool.map(encode_some, servers))
    assert coded == len(found.entry.segments)
    assert count_uncoded(servers[0].catalogue) == 0
    assert first.branches(REPO).keys() == {"main", "dev/x"}
    Collector(servers[0], grace_seconds=0).run()
    pieces = servers[1].read_file(REPO, "v1", "model.safetensors")[2]
    assert b"".join(map(bytes, pieces)) == WEIGHTS
    for vault in servers:
        vault.catalogue.close()


def test_of_two_that_wait_together_the_later_becomes_a_delta(
    local: LocalVault, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(background_encode, "recentre_chunks", lambda *_: None)
    base = make_weights(1, {"a": (256, 96), "b": (256, 64)})
    commit_upload(local, "org/base", bf16_file(base))
    commit_upload(local, "org/tune", bf16_file(tune(base, 2)))
    assert encode_some(local) == count_uncoded(local.catalogue) + len(
        {d for repo in ("org/base", "org/tune") for d in local.resolve(repo).manifest.digests()}
    )
    places = [
        local.catalogue.locate(list(local.resolve(repo).manifest.digests())).values()
        for repo in ("org/base", "org/tune")
    ]
    assert [sum(p.base is not None for p in each) for each in places] == [0, 2]
