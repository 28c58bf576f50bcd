"""Commits of files whose tensors a neighbour places: they are cut as a push cuts them, whatever
came first."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from format_samples import make_arrays, make_onnx, tf_bundle_bytes
from vaults import open_local

from weightvault.dedup.formats import onnx as onnx_format
from weightvault.dedup.formats.cutting.reader import Work
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.model.files import expansion
from weightvault.dedup.model.files.entries import FileEntry
from weightvault.dedup.transfer import recutting
from weightvault.dedup.transfer.push import push
from weightvault.dedup.transfer.refs import AddFile, History, Message
from weightvault.dedup.transfer.uploads import IncomingFiles

REPO = "org/model"
ARRAYS = make_arrays(side=24)


def onnx_folder(folder: Path) -> tuple[str, str]:
    options = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    onnx.save(make_onnx(ARRAYS), folder / "model.onnx", **options)
    return "model.onnx", "weights.bin"


def bundle_folder(folder: Path) -> tuple[str, str]:
    names = "variables.index", "variables.data-00000-of-00001"
    for name, data in zip(names, tf_bundle_bytes(ARRAYS), strict=True):
        (folder / name).write_bytes(data)
    return names


@pytest.fixture(params=[onnx_folder, bundle_folder])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str, str]:
    """A folder, and the names of the file that places tensors and of the one that holds them."""
    folder = tmp_path / "model"
    folder.mkdir()
    return (folder, *request.param(folder))


@pytest.mark.parametrize("order", ["together", "index first", "data first"])
def test_a_commit_cuts_them_as_a_push(model: tuple[Path, str, str], tmp_path: Path, order: str):
    folder, index, data = model
    vault = open_local(tmp_path / "vault")
    incoming = IncomingFiles(vault)
    history = History(vault, incoming)
    history.create_repo(REPO, Message("begin"))
    changes: list[AddFile] = []
    steps = {"together": [[index, data]], "index first": [[index], [data]]}
    for names in steps.get(order, [[data], [index]]):
        changes = [
            AddFile(f"onnx/{name}", incoming.add([(folder / name).read_bytes()], REPO))
            for name in names
        ]
        history.commit(REPO, "main", changes, Message(" ".join(names)))
    committed = vault.resolve(REPO).manifest
    found = committed.file(f"onnx/{data}")
    assert found is not None
    assert {t.shape for t in found.tensors} >= {values.shape for values in ARRAYS.values()}
    read = b"".join(map(bytes, vault.read_file(REPO, "main", f"onnx/{data}")[2]))
    assert read == (folder / data).read_bytes()
    pushed = push(vault, folder, "org/pushed")
    assert (pushed.new_chunks, pushed.sent) == (0, 0)
    recipes = {e.digest: e.recipe() for e in vault.resolve("org/pushed").manifest.files}
    assert all(recipes[entry.digest] == entry.recipe() for entry in committed.files)
    # What was cut once is not cut again.
    before = vault.resolve(REPO).commit.id
    assert history.commit(REPO, "main", changes, Message("again")).id == before
    vault.close()


def commit_in_turns(vault: LocalVault, folder: Path, names: list[str]) -> FileEntry:
    """Commits files one by one; returns the one that tensors lie in."""
    incoming = IncomingFiles(vault)
    history = History(vault, incoming)
    history.create_repo(REPO, Message("begin"))
    for name in names:
        change = AddFile(name, incoming.add([(folder / name).read_bytes()], REPO))
        history.commit(REPO, "main", [change], Message(name))
    found = vault.resolve(REPO).manifest.file("weights.bin")
    assert found is not None
    return found


def test_a_small_commit_reads_so_much_of_what_was_there_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    index, data = onnx_folder(tmp_path)
    monkeypatch.setattr(recutting, "FREE_BYTES", (tmp_path / data).stat().st_size - 1)
    late = commit_in_turns(open_local(tmp_path / "late"), tmp_path, [data, index])
    assert not list(late.tensors)
    # What a commit changes itself counts for nothing.
    early = commit_in_turns(open_local(tmp_path / "early"), tmp_path, [index, data])
    assert list(early.tensors)


def test_an_index_of_many_files_is_not_read_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A model of 1 MiB may name thousands of files, and once was read for every one of them."""
    values = list(ARRAYS.values())[:1] * 12
    model = make_onnx({})
    for number, array in enumerate(values):
        (tmp_path / f"w{number}.bin").write_bytes((array + number).tobytes())
        kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        tensor = model.graph.initializer.add(name=f"{number}", data_type=kind, dims=array.shape)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=f"w{number}.bin")
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    vault = open_local(tmp_path / "vault")
    incoming = IncomingFiles(vault)
    history = History(vault, incoming)
    history.create_repo(REPO, Message("begin"))
    names = sorted(path.name for path in tmp_path.glob("w*.bin"))
    read = []
    monkeypatch.setattr(onnx_format, "list_external", _counted(onnx_format.list_external, read))
    for step in (names, ["model.onnx"]):
        changes = [AddFile(n, incoming.add([(tmp_path / n).read_bytes()], REPO)) for n in step]
        history.commit(REPO, "main", changes, Message(" ".join(step)))
    files = vault.resolve(REPO).manifest.files
    assert all(list(entry.tensors) for entry in files if entry.path in names)
    assert read.count("model.onnx") == 1
    vault.close()


def _counted(function, read: list[str]):
    def counted(name: str, *rest):
        read.append(name)
        return function(name, *rest)

    return counted


def test_one_commit_reads_so_many_indexes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    index, _ = onnx_folder(tmp_path)
    for number in range(5):
        (tmp_path / f"a{number}.onnx").write_bytes((tmp_path / index).read_bytes())
    read = []
    monkeypatch.setattr(onnx_format, "list_external", _counted(onnx_format.list_external, read))
    monkeypatch.setattr(recutting, "_MOST_INDEXES", 3)
    vault = open_local(tmp_path / "vault")
    incoming = IncomingFiles(vault)
    history = History(vault, incoming)
    history.create_repo(REPO, Message("begin"))
    names = [f"a{number}.onnx" for number in range(5)]
    changes = [AddFile(n, incoming.add([(tmp_path / n).read_bytes()], REPO)) for n in names]
    history.commit(REPO, "main", changes, Message("many"))
    assert sorted(set(read) & set(names)) == names[:3]
    vault.close()


@pytest.mark.parametrize("names", [["model.onnx", "weights.bin"], ["weights.bin", "model.onnx"]])
def test_the_indexes_of_one_commit_share_what_reading_them_may_take(
    names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Of a kilobyte, it may name hundreds that were uploaded before, or lie beside them."""
    onnx_folder(tmp_path)
    monkeypatch.setattr(recutting, "REQUEST_READS", 10)
    monkeypatch.setattr(Work, "LEAST_READS", 0)
    vault = open_local(tmp_path / "vault")
    assert not list(commit_in_turns(vault, tmp_path, names).tensors)
    read = b"".join(map(bytes, vault.read_file(REPO, "main", "weights.bin")[2]))
    assert read == (tmp_path / "weights.bin").read_bytes()
    vault.close()


def test_files_that_repeat_themselves_are_not_cut_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    index, data = onnx_folder(tmp_path)
    (tmp_path / data).write_bytes(bytes(4 << 20))
    monkeypatch.setattr(expansion, "FREE_BYTES", 1 << 10)
    monkeypatch.setattr(expansion, "RATIO", 1)
    found = commit_in_turns(open_local(tmp_path / "vault"), tmp_path, [index, data])
    assert not list(found.tensors)
