"""What it takes to add a format, a dtype, a backend, an endpoint or a column of reports: one line,
and what it names.

Each test adds one at the point that ARCHITECTURE.md names ("Where to change what"), uses it from
end to end, and takes it away again. Codecs are in codecs/test_registry.py.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from fastapi import Request
from fastapi.testclient import TestClient
from models import safetensors_bytes
from vaults import open_local

from weightvault.api import report_text
from weightvault.api.config import open_local_vault
from weightvault.api.formatting import format_bytes
from weightvault.api.requests.access import needs, sees_own
from weightvault.api.server.app import create_app, endpoints
from weightvault.api.v1 import routes
from weightvault.codecs import dtypes
from weightvault.codecs.dtypes import Dtype
from weightvault.dedup.formats import registry as formats
from weightvault.dedup.formats.cutting.reader import ReadableFile, read_at
from weightvault.dedup.formats.source import cover, make_tensor
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.model.files import segments
from weightvault.dedup.model.report import Query
from weightvault.dedup.reports.prices import flat_class
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push
from weightvault.store.backend import Backend
from weightvault.store.backends import open as backends
from weightvault.store.backends.memory import MemoryBackend

WEIGHTS = np.random.default_rng(1).normal(0, 0.05, (64, 48)).astype(np.float32)


def there_and_back(vault: LocalVault, source: Path, target: Path) -> list[tuple[str, int]]:
    """Pushes a folder and pulls it again; returns dtype and size of each tensor found in it."""
    push(vault, source, "org/added")
    pull(vault, "org/added", target)
    for file in source.iterdir():
        assert (target / file.name).read_bytes() == file.read_bytes()
    found = vault.resolve("org/added", "main").manifest.files
    return [(tensor.dtype, tensor.size) for file in found for tensor in file.tensors]


def test_a_format_is_a_module_and_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The format: four bytes of magic, rows and columns as u32, the numbers of a matrix."""
    head = 12

    def recognise(_name: str, start: bytes) -> bool:
        return start.startswith(b"MTRX")

    def segment(file: ReadableFile, size: int) -> list[segments.Segment]:
        shape = struct.unpack("<2I", read_at(file, 4, 8))
        tensor = make_tensor("matrix", "F32", shape, size - head)
        return cover(file, size, [(head, [tensor])])

    module = ModuleType("weightvault.dedup.formats.matrix")
    module.recognise, module.segment = recognise, segment  # type: ignore[attr-defined]
    monkeypatch.setattr(formats, "_FORMATS", (*formats._FORMATS, module))
    source = tmp_path / "model"
    source.mkdir()
    shape = struct.pack("<2I", *WEIGHTS.shape)
    (source / "w.matrix").write_bytes(b"MTRX" + shape + WEIGHTS.tobytes())
    vault = open_local(tmp_path / "vault")
    assert there_and_back(vault, source, tmp_path / "out") == [("F32", WEIGHTS.nbytes)]
    with (source / "w.matrix").open("rb") as file:
        assert formats.find_format("w.matrix", file) == "matrix"


def test_a_dtype_is_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    added = Dtype("Q1_15", 250, 2, is_signed=True)
    monkeypatch.setitem(dtypes.BY_NAME, added.name, added)
    monkeypatch.setitem(dtypes.ALL_DTYPES, added.name, added)
    monkeypatch.setitem(dtypes.BY_ID, added.id, added)
    # Made of the table when it is imported.
    monkeypatch.setitem(segments.ITEM_BYTES, added.name, added.item_bytes)
    source = tmp_path / "model"
    source.mkdir()
    raw = WEIGHTS.tobytes()
    file = safetensors_bytes({"w": ("Q1_15", (64, 96), raw)})
    (source / "model.safetensors").write_bytes(file)
    vault = open_local(tmp_path / "vault")
    assert there_and_back(vault, source, tmp_path / "out") == [("Q1_15", len(raw))]
    (by_dtype,) = vault.report(Query(("dtype",))).breakdowns
    assert "Q1_15" in [row.name for row in by_dtype.rows]


def test_a_backend_is_a_module_and_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    shelf = MemoryBackend()

    def open_shelf(parts, _umask: int) -> Backend:
        assert parts.netloc == "upper"
        return shelf

    kind = backends.BackendKind(open_shelf, "shelf://name", is_remote=True)
    monkeypatch.setitem(backends.BACKENDS, "shelf", kind)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    source = tmp_path / "model"
    source.mkdir()
    file = safetensors_bytes({"w": ("F32", WEIGHTS.shape, WEIGHTS.tobytes())})
    (source / "model.safetensors").write_bytes(file)
    vault = open_local_vault("shelf://upper")
    assert there_and_back(vault, source, tmp_path / "out") == [("F32", WEIGHTS.nbytes)]
    assert any(info.key.startswith("packs") for info in shelf.list())
    vault.close()
    with pytest.raises(ValueError, match="shelf://name"):
        backends.open_backend("box://upper")


def test_a_column_of_reports_is_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The column: chunks' bytes that their frames save, in tables and in CSV."""
    saved = report_text.Column("spared", "spared", lambda _, row: row.unique - row.billed)
    monkeypatch.setattr(report_text, "COLUMNS", (*report_text.COLUMNS, saved))
    source = tmp_path / "model"
    source.mkdir()
    file = safetensors_bytes({"w": ("F32", WEIGHTS.shape, bytes(WEIGHTS.nbytes))})
    (source / "model.safetensors").write_bytes(file)
    vault = open_local(tmp_path / "vault")
    push(vault, source, "org/added")
    found = vault.report()
    (row,) = found.breakdowns[0].rows
    priced = report_text.price_report(found, flat_class(0.02), 0)
    lines = report_text.to_table(priced).splitlines()
    (head,) = [line for line in lines if line.startswith("repo")]
    assert head.split()[-1] == "spared"
    assert lines[lines.index(head) + 1].endswith(format_bytes(row.unique - row.billed))
    assert f"repo,org/added,spared,{row.unique - row.billed}" in report_text.to_csv(priced)


@pytest.fixture
def added_routes() -> Iterator[None]:
    """Takes away what a test adds to the endpoints."""
    before = len(routes.router.routes)
    yield
    del routes.router.routes[before:]


@pytest.mark.usefixtures("added_routes")
def test_an_endpoint_is_a_route_with_its_right(tmp_path: Path):
    @routes.router.get("/shapes", tags=["vault"], dependencies=needs(sees_own))
    def count_shapes(request: Request, vault: routes.VaultParam) -> dict[str, int]:
        """Counts the repos that there are."""
        return {"repos": len(vault.list_repos())}

    app = create_app(open_local(tmp_path / "vault"))
    assert ("GET", "/v1/shapes") in endpoints(app)
    client = TestClient(app, base_url="http://localhost")
    assert client.get("/v1/shapes").json() == {"repos": 0}


@pytest.mark.usefixtures("added_routes")
def test_an_endpoint_without_a_right_is_refused(tmp_path: Path):
    @routes.router.get("/shapes")
    def count_shapes() -> dict[str, int]:
        return {}

    with pytest.raises(RuntimeError, match="no right is declared"):
        create_app(open_local(tmp_path / "vault"))
