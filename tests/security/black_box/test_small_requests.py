"""Attack: requests of a few hundred bytes make the server work, or answer, for minutes.

The bound is the promise of SECURITY.md, in processor seconds of the server: 2.
"""

from __future__ import annotations

import json
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import httpx
import pytest
import xxhash
import zstandard
from blake3 import blake3
from hostile_bodies import CHUNK_BYTES, empty_files, make_files, make_manifest
from models import safetensors_bytes
from product import END_SECONDS, Server, Vault, require

MIB = 1 << 20
MOST_SECONDS = 2.0
ZEROS = bytes(CHUNK_BYTES)


@pytest.fixture(scope="module")
def zeros(tmp_path_factory: pytest.TempPathFactory) -> Vault:
    """A vault that has one chunk of 32 MiB of zeros: a frame of some 65 bytes."""
    root = tmp_path_factory.mktemp("zeros")
    (root / "model.safetensors").write_bytes(safetensors_bytes({"w": ("U8", (len(ZEROS),), ZEROS)}))
    vault = Vault(root / "vault")
    vault.push(root / "model.safetensors", "org/zeros")
    return vault


@pytest.fixture(scope="module")
def zeros_kept(zeros: Vault) -> Iterator[Callable[[], Server]]:
    with zeros.keep() as running:
        yield running


@pytest.fixture
def server(zeros_kept: Callable[[], Server]) -> Server:
    """A server of it."""
    return zeros_kept()


def endless_manifest() -> bytes:
    """A file of 128 TiB, as the same chunk four million times."""
    times = 1 << 22
    segment = {"size": times * CHUNK_BYTES, "chunks": [0] * times}
    file = {"path": "a", "size": segment["size"], "blake3": "00" * 32, "segments": [segment]}
    return make_files([file], [blake3(ZEROS).digest()])


def test_a_short_manifest_of_an_endless_file(server: Server):
    client, body = server.client(), endless_manifest()
    assert len(body) < 1000
    answer = server.bounded(
        lambda: client.post("/v1/repos/org/long/commits", content=body), MOST_SECONDS
    )
    assert answer.status_code // 100 == 4


def repeat_frame(pack: bytes, raw_bytes: int, times: int) -> bytes:
    """A pack that has the frame of so many raw bytes of another one many times."""
    index_bytes, count, bases, flags = struct.unpack_from("<IIIH", pack, len(pack) - 24)
    require(bases == 0, "deltas in the pack")
    index = pack[-32 - index_bytes : -32]
    facts = index[32 * count :]
    facts = zstandard.ZstdDecompressor().decompress(facts) if flags & 1 else facts
    # Columns of planes: every `count`th byte is of one frame, its length and raw length first.
    rows = [facts[i::count] for i in range(count)]
    (chosen,) = [i for i, row in enumerate(rows) if row[8:16] == raw_bytes.to_bytes(8, "little")]
    lengths = [int.from_bytes(row[:8], "little") for row in rows]
    frame = pack[8 + sum(lengths[:chosen]) :][: lengths[chosen]]
    digest = index[32 * chosen :][:32]
    body = digest * times + b"".join(bytes([byte]) * times for byte in rows[chosen])
    tail = struct.pack("<IIIHH", len(body), times, 0, 0, 0) + pack[-8:]
    checksum = xxhash.xxh3_64_intdigest(body + tail).to_bytes(8, "little")
    return pack[:8] + frame * times + body + checksum + tail


def test_a_pack_of_equal_frames(server: Server, zeros: Vault):
    """400 frames of 65 bytes decode to 12 GiB."""
    (pack,) = [path for path in (zeros.root / "objects/packs").rglob("*") if path.is_file()]
    body = repeat_frame(pack.read_bytes(), CHUNK_BYTES, 400)
    assert len(body) < 100_000
    client, name = server.client(), blake3(body).hexdigest()
    answer = server.bounded(lambda: client.put(f"/v1/packs/{name}", content=body), MOST_SECONDS)
    assert answer.status_code // 100 == 4


def test_a_signal_ends_the_server_all_the_same(server: Server):
    """Four of these once held every slot, and a signal did not end the process."""
    body = endless_manifest()

    def commit() -> None:
        with suppress(httpx.HTTPError):
            server.client().post("/v1/repos/org/long/commits", content=body)

    senders = [threading.Thread(target=commit, daemon=True) for _ in range(4)]
    before, patience = server.cpu_seconds(), time.monotonic() + 20
    for sender in senders:
        sender.start()
    # In the middle of them, or after all are refused.
    while time.monotonic() < patience and any(sender.is_alive() for sender in senders):
        if server.cpu_seconds() - before > 4:
            break
        time.sleep(0.1)
    server.process.send_signal(signal.SIGTERM)
    try:
        server.process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        pytest.fail(f"{len(body)} bytes keep the server from ending")


def test_a_claim_of_terabytes(hub):
    """The parts of a file that nobody sends were once all listed."""
    me = hub.user("me")
    require(me.create("me/long").is_success, "no repo")
    item = {"oid": "a" * 64, "size": 4 << 40}
    asked = {"operation": "upload", "transfers": ["multipart"], "objects": [item] * 3}
    answer = me.web.post("/me/long.git/info/lfs/objects/batch", json=asked)
    size = len(answer.content)
    assert size < 32 * MIB, f"{len(json.dumps(asked))} bytes are answered with {size >> 20} MiB"


# Texts


def alias_bomb() -> str:
    """Eleven lines that stand for a quarter of a million texts."""
    lines = ["a0: &a0 [lol, lol, lol]"]
    lines += [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}]" for i in range(1, 11)]
    return "\n".join(lines)


def test_a_long_card_is_validated_cheaply(lone: Server):
    content = "---\n" + "".join(f"k{i}: [v, {{a: b}}]\n" for i in range(40_000)) + "---\n"
    client = lone.client()
    asked = {"repoType": "model", "content": content}
    require(len(content) < MIB, len(content))
    answer = lone.bounded(lambda: client.post("/api/validate-yaml", json=asked), MOST_SECONDS)
    assert answer.status_code in (200, 400)


def commit_card(server: Server, repo: str, matter: str) -> None:
    """Makes a repo with a card."""
    hub = server.hub()
    require(hub.create(repo).is_success, repo)
    made = hub.commit(repo, {"README.md": f"---\n{matter}\n---\n# Title\n".encode()})
    require(made.is_success, made.text)


def test_a_card_of_aliases_is_answered_shortly(lone: Server):
    matter = alias_bomb()
    assert len(matter) < 500
    commit_card(lone, "org/aliases", matter)
    with lone.client() as client, client.stream("GET", "/api/models/org/aliases") as answer:
        size = 0
        for piece in answer.iter_bytes():
            size += len(piece)
            assert size < MIB, f"a card of {len(matter)} bytes is answered with more than 1 MiB"
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "matter", ["a: 0x" + "f" * 5000, 'a: "\\ud800"'], ids=["hexadecimal", "surrogate"]
)
def test_an_odd_card_is_no_failure_of_the_server(lone: Server, matter: str):
    repo = f"org/odd-{len(matter)}"
    commit_card(lone, repo, matter)
    answer = lone.client().get(f"/api/models/{repo}")
    assert answer.status_code == 200, f"the repo cannot be looked at: {answer.status_code}"


def test_deep_paths_are_checked_cheaply(lone: Server):
    """Each name once took work in the square of its length."""
    deep = "/".join("d" * 490)
    body = empty_files(sorted(f"{deep}/{i:06}" for i in range(4_000)))
    assert len(body) < 20_000
    client = lone.client()
    answer = lone.bounded(
        lambda: client.post("/v1/repos/org/deep/commits", content=body), MOST_SECONDS
    )
    assert answer.status_code == 400


def test_a_short_manifest_takes_little_memory(lone: Server):
    parts = b",".join([b'{"literal":""}'] * 1_000_000)
    file = b'{"path":"a","size":0,"blake3":"%b","segments":[' % (b"00" * 32)
    body = make_manifest(b'{"chunk_bytes":33554432,"files":[' + file + parts + b"]}]}", [])
    assert len(body) < 80_000
    before = lone.forget_peak()
    answer = lone.client().post("/v1/repos/org/large/commits", content=body)
    more = lone.peak_bytes() - before
    assert more < 128 * MIB, f"{len(body)} bytes take {more >> 20} MiB of memory"
    assert answer.status_code // 100 == 4
