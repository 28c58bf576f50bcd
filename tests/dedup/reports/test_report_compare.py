"""Other ways of storing, measured on the files of a vault."""

import json
from pathlib import Path

import numpy as np
import pytest
import zstandard
from models import make_weights, read_folder, tune, write_model

from weightvault.dedup.errors import InvalidInput
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.model.report import Comparison, Method
from weightvault.dedup.transfer.push import push


def by_name(found: Comparison) -> dict[str, Method]:
    return {method.name: method for method in found.methods}


def test_each_method_takes_what_it_takes(local: LocalVault, tmp_path: Path):
    model = write_model(tmp_path / "a", make_weights(1))
    push(local, model, "org/a")
    push(local, model, "org/copy")
    push(local, write_model(tmp_path / "b", tune(make_weights(1), 2)), "org/b", base="org/a")
    found = local.compare()
    methods, report = by_name(found), local.report()
    assert (found.files, found.of_files, found.share) == (3, 3, 1.0)
    assert found.logical == found.of_logical == report.logical
    assert methods["plain files"].bytes == report.logical
    assert methods["whole files once"].bytes == report.distinct_files
    files = [data for name in ("a", "a", "b") for data in read_folder(tmp_path / name).values()]
    packed = 0
    for data in files:
        packer = zstandard.ZstdCompressor(3).compressobj()
        packed += len(packer.compress(data)) + len(packer.flush())
    assert methods["zstd per file"].bytes == pytest.approx(packed, rel=0.01)
    assert methods["weightvault"].bytes == report.frames
    # Deltas are what standalone coding lacks.
    assert methods["standalone coding"].bytes > report.frames
    assert {m.measured for m in found.methods} == {"full", "all files"}


def test_content_defined_chunks_find_what_moved(local: LocalVault, tmp_path: Path):
    noise = np.random.default_rng(1).integers(0, 256, 2_000_000, np.uint8).tobytes()
    for name, data in (("a", noise), ("b", b"inserted" + noise)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.bin").write_bytes(data)
        push(local, tmp_path / name, f"org/{name}")
    methods = by_name(local.compare())
    once = methods["content-defined chunks"].bytes
    # Noise does not compress; the second file adds the chunk before which something was put.
    assert len(noise) <= once <= len(noise) + 2 * 128 * 1024


def test_a_sample_is_drawn_by_its_seed(local: LocalVault, tmp_path: Path):
    for i in range(12):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / "config.json").write_text(json.dumps({"seed": i, "pad": "x" * 500}))
        push(local, tmp_path / str(i), f"org/{i}")
    samples = [local.compare(0.4, seed) for seed in range(4)]
    again = local.compare(0.4, 0)
    assert [m.bytes for m in again.methods] == [m.bytes for m in samples[0].methods]
    assert len({sample.logical for sample in samples}) > 1
    for sample in samples:
        assert sample.of_files == 12
        assert 0 < sample.files < 12
        assert {m.measured for m in sample.methods} == {"full", "sample"}
        assert by_name(sample)["plain files"].bytes == sample.of_logical > sample.logical


def test_a_sample_pays_for_its_part_of_the_bases(local: LocalVault, tmp_path: Path):
    base = make_weights(1)
    push(local, write_model(tmp_path / "base", base), "org/base")
    for i in range(8):
        tuned = write_model(tmp_path / str(i), tune(base, i + 2))
        push(local, tuned, f"org/{i}", base="org/base")
    every = by_name(local.compare())["weightvault"].bytes
    samples = [local.compare(0.5, seed) for seed in range(12)]
    parts = [by_name(s)["weightvault"].bytes / s.logical * s.of_logical for s in samples if s.files]
    # Some have the base itself, some do not; they lie about what all files take.
    assert min(parts) < every * 1.2
    assert 0.5 * every < sum(parts) / len(parts) < 2 * every


@pytest.mark.parametrize("share", [0, -1, 1.5, float("nan")])
def test_shares_that_are_none(local: LocalVault, share: float):
    with pytest.raises(InvalidInput):
        local.compare(share)


def test_comparing_nothing(local: LocalVault):
    found = local.compare()
    assert (found.files, found.logical) == (0, 0)
    assert all(method.bytes == 0 for method in found.methods)
