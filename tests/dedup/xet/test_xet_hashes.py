"""The hashes of the Xet protocol against vectors of its own, and against the real client."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xet_samples import golden, golden_files

from weightvault.dedup.xet.hashes import (
    TreeHasher,
    format_hash,
    hash_chunk,
    hash_xorb,
    parse_hash,
    swap_groups,
)
from weightvault.dedup.xet.shard import Shard

# Leaves of the vectors that xet-core tests its own trees with.
A = "cfc5d07f6f03c29bbf424132963fe08d19a37d5757aaf520bf08119f05cd56d6"
B = "c3e67584b5c4fc2a89837ec39e40f2c8a6bb0b2987ac94cd4b31e5fbdd210a72"
ZERO = "0" * 64
# What hf_xet 1.8.0 says of golden_files, and of empty ones.
GOLDEN_HASHES = {
    "text": "47f5f7e3c1abeaa9e0678539d38862177bfe311aea1a929ccf47e66e948e6ef1",
    "floats": "80c68e92f0024cb5e6dae1875522aad479de4688bd0415b6dbc6e2450c2809ff",
    "noise": "1de27ff5edfce152490cf684eb683cd92283361088a0d06110c27e81a358c721",
}


def tree(leaves: list[tuple[str, int]]) -> TreeHasher:
    hasher = TreeHasher()
    for text, size in leaves:
        hasher.add(parse_hash(text), size)
    return hasher


@pytest.mark.parametrize(
    ("leaves", "xorb", "file"),
    [
        ([], ZERO, ZERO),
        ([(ZERO, 0)], ZERO, "638a6bc391964a85939d48f008e8bdbae6a7975e7ca2d87a3ce2492f4e4d8a4c"),
        ([(A, 100)], A, "8e16257caa3fe079d484d872a8975264b2ff683b0d6db9028cc7c0f968a45661"),
        (
            [(A, 100)] * 4,
            "89f2ada89ff8c96763c6b25010e6dd76a4c05b1466207633ea559acf2093211b",
            "2cdba690d0e09563596e0cda626d43eb4c96ef1e994fe72d9b2f5a83cfcd36dd",
        ),
        (
            [(A, 100), (B, 200)] * 2,
            "90f8313ef12df385d237a067aded02562c35ded12116e32eba401dbc86c38031",
            "284ea045e5a579e99c21ec597c20de1fc0c09e7168162aac00db8f61b3d82dbb",
        ),
        (
            [(A, 100)] * 32,
            "0a0123c1617921883b7e13902095fcb86676e77c49120c33b233003b0af0e0a6",
            "53af4711fd1d5e5bdc7f931b6be932314d8d673cb16ad2482f6f5222eaf9e63d",
        ),
    ],
)
def test_trees_match_the_vectors_of_the_protocol(leaves, xorb: str, file: str):
    assert format_hash(tree(leaves).root()) == xorb
    assert format_hash(tree(leaves).file_hash()) == file


def test_golden_files_have_the_hashes_that_the_client_gave_them():
    shard = Shard(golden("shard"))
    assert {format_hash(f.hash) for f in shard.files()} == set(GOLDEN_HASHES.values())


@given(st.binary(min_size=32, max_size=32))
def test_text_form_round_trips(digest: bytes):
    assert parse_hash(format_hash(digest)) == digest
    assert swap_groups(swap_groups(digest)) == digest


def test_text_form_reverses_groups_of_eight():
    assert format_hash(bytes(range(32))).startswith("0706050403020100" + "0f0e0d0c")


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "g" * 64, "A" * 64, "0" * 63 + "\n"])
def test_what_is_no_hash_is_refused(text: str):
    with pytest.raises(ValueError, match="not a hash"):
        parse_hash(text)


def level_by_level(nodes: list[tuple[bytes, int]]) -> bytes:
    """The root as the specification computes it, a whole level at a time."""
    while len(nodes) > 1:
        above, at = [], 0
        while at < len(nodes):
            end = min(9, len(nodes) - at)
            cuts = [i + 1 for i in range(2, end) if nodes[at + i][0][24] % 4 == 0]
            group = nodes[at : at + (cuts or [end])[0]]
            hasher = TreeHasher()
            hasher._open[0] = list(group)
            hasher._seen[0] = len(group)
            hasher._close(0)
            above.append(hasher._open[1][0])
            at += len(group)
        nodes = above
    return nodes[0][0]


@pytest.mark.parametrize("seed", range(40))
def test_streamed_tree_has_the_root_of_the_whole_one(seed: int):
    rng = np.random.default_rng(seed)
    nodes = [(rng.bytes(32), int(rng.integers(1, 1 << 17))) for _ in range(1 + seed * 13)]
    assert hash_xorb(nodes) == level_by_level(list(nodes))


def test_files_hash_as_the_real_client_hashes_them(tmp_path):
    hf_xet = pytest.importorskip("hf_xet")
    names = []
    for name, data in golden_files().items():
        (tmp_path / name).write_bytes(data)
        names.append(name)
    # Below the smallest chunk of the protocol a file is one chunk, whatever it holds.
    for size in (1, 2, 1000, 8191):
        (tmp_path / str(size)).write_bytes(bytes(i % 251 for i in range(size)))
        names.append(str(size))
    infos = hf_xet.hash_files([str(tmp_path / name) for name in names])
    found = {name: info.hash for name, info in zip(names, infos, strict=True)}
    for size in (1, 2, 1000, 8191):
        hasher = TreeHasher()
        hasher.add(hash_chunk((tmp_path / str(size)).read_bytes()), size)
        assert found.pop(str(size)) == format_hash(hasher.file_hash())
    assert found == GOLDEN_HASHES
