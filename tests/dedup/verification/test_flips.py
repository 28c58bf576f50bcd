"""A flipped byte in every region of every object is found, named exactly, and mended from copies.

Every byte: benchmarks/proofs/flip_bytes.py.
"""

import random
from pathlib import Path

import pytest
from damage import flip
from flips import Region, is_found, make_store, regions_of, try_flip
from vaults import open_local

# What each region of an object must occur as, so that none is forgotten.
REGIONS = {
    *(f"packs: {name}" for name in ("header", "index", "trailer")),
    *(f"packs: frame {name}" for name in ("head", "digest", "base", "table", "seal", "body")),
    *(f"manifests: {name}" for name in ("head", "digests", "outline")),
    *("sketches: head", "sketches: rows", "xorbs: chunks", "xorbs: index"),
    *("journal: text", "weightvault: text", "heads: text"),
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flips")
    make_store(folder / "store", folder / "sources")
    return folder / "store"


def all_regions(template: Path) -> list[Region]:
    objects = template / "objects"
    files = [p for p in objects.rglob("*") if p.is_file()]
    keys = sorted(p.relative_to(objects).as_posix() for p in files)
    return [r for key in keys for r in regions_of(key, (objects / key).read_bytes())]


def test_every_region_is_looked_at(template: Path):
    assert {region.name for region in all_regions(template)} == REGIONS


def test_a_flip_anywhere_is_found(template: Path):
    vault = open_local(template)
    rng = random.Random(1)
    for region in all_regions(template):
        path = template / "objects" / region.key
        whole = path.read_bytes()
        inner = rng.sample(range(region.start, region.stop), min(4, region.stop - region.start))
        for at in {region.start, region.stop - 1, *inner}:
            flip(path, at, 1 << rng.randrange(8))
            assert is_found(vault, region.key), (region, at)
            path.write_bytes(whole)
    vault.close()


@pytest.mark.parametrize("name", sorted(REGIONS))
def test_what_a_flip_means_is_named_and_mended(template: Path, tmp_path: Path, name: str):
    regions = [region for region in all_regions(template) if region.name == name]
    rng = random.Random(name)
    for number, region in enumerate(rng.sample(regions, min(2, len(regions)))):
        at = rng.randrange(region.start, region.stop)
        outcome = try_flip(template, tmp_path / str(number), region.key, at)
        assert outcome.named == outcome.unreadable, (region, at)
        assert outcome.lost == outcome.still, (region, at)
        assert outcome.still <= outcome.unreadable
        assert outcome.clean
