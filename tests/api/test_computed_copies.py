"""Copies that are stored as recipes, over HTTP: clients need neither recipes nor sources."""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np
import pytest
from models import read_folder, safetensors_bytes

from weightvault.api.client.http_vault import HttpVault
from weightvault.codecs.frame import parse_header
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.similarity.sources import list_tensors
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push
from weightvault.store.packs import DERIVED

SHAPE = (128, 160)


def write(folder: Path, dtype: str, values: np.ndarray) -> Path:
    folder.mkdir()
    packed: dict[str, tuple[str, tuple[int, ...], bytes]] = {}
    packed["weight"] = dtype, SHAPE, values.tobytes()
    (folder / "model.safetensors").write_bytes(safetensors_bytes(packed))
    return folder


def test_a_copy_is_sent_standalone(local: LocalVault, remote: HttpVault, tmp_path: Path):
    values = np.random.default_rng(1).normal(0, 0.05, SHAPE).astype(np.float32)
    push(local, write(tmp_path / "source", "F32", values), "org/source")
    copy = write(tmp_path / "copy", "F16", values.astype(np.float16))
    push(local, copy, "org/copy")
    (tensor,) = list_tensors(local.resolve("org/copy").manifest)
    digest = tensor.pieces[0].digest
    assert local.catalogue.locate([digest])[digest].level == DERIVED

    (frame,) = remote.read_frames("org/copy", "main", [digest])
    assert parse_header(frame).inputs == ()
    assert len(frame) <= 2 * values.size
    pull(remote, "org/copy", tmp_path / "pulled")
    assert read_folder(tmp_path / "pulled") == read_folder(copy)


@pytest.fixture
def copied(local: LocalVault, tmp_path: Path) -> LocalVault:
    """A source, a tune of it, and a copy of the tune."""
    values = np.random.default_rng(1).normal(0, 0.05, SHAPE).astype(np.float32)
    tuned = values + np.random.default_rng(2).normal(0, 3e-4, SHAPE).astype(np.float32)
    push(local, write(tmp_path / "source", "F32", values), "org/source")
    push(local, write(tmp_path / "tune", "F32", tuned), "org/tune")
    push(local, write(tmp_path / "half", "F16", tuned.astype(np.float16)), "org/half")
    return local


def test_a_copy_is_named_by_its_source(copied: LocalVault, run, live: str):
    (computed,) = copied.describe_repo("org/half").computed
    assert (computed.dtype, computed.repo, computed.source) == ("F16", "org/tune", "weight")
    assert HttpVault(live).describe_repo("org/half").computed == (computed,)
    shown = run("--vault", live, "info", "org/half").stdout
    assert "F16 of weight, from org/tune: 40.0 KiB in" in shown
    page = httpx.get(f"{live}/org/half/tensors", trust_env=False).text
    assert "F16 of <code>weight</code>, computed from <a href=" in page
    assert ">org/tune</a>" in page

    copied.delete_repo("org/tune")
    (computed,) = copied.describe_repo("org/half").computed
    assert (computed.repo, computed.source) == (None, None)
    assert "from a deleted repo" in run("--vault", live, "info", "org/half").stdout
    assert "computed from a deleted repo" in httpx.get(f"{live}/org/half/tensors").text


def test_families_draw_copies_below_their_sources(
    copied: LocalVault, run, live: str, tmp_path: Path
):
    (family,) = copied.list_families()
    sources = {member.repo: member.source for member in family.members}
    assert sources == {"org/source": None, "org/tune": None, "org/half": "org/tune"}
    below = {above: [m.repo for m in members] for above, members in family.place_members().items()}
    assert below == {"org/source": ["org/tune"], "org/tune": ["org/half"]}
    picture = tmp_path / "families.svg"
    drawn = run("--vault", live, "families", "--svg", picture).stdout.splitlines()
    assert drawn[2].startswith("└── org/tune: ")
    assert drawn[3].startswith("    └── org/half: ")
    assert drawn[3].endswith("1 of 1 chunks computed")
    assert 'class="copy"' in picture.read_text()
    page = httpx.get(f"{live}/org/tune/family", trust_env=False).text
    assert page.index("org/source") < page.rindex("org/tune") < page.rindex("org/half")
