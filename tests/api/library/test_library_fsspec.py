"""Vaults as a file system of fsspec, on a folder and through a server."""

from __future__ import annotations

import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import make_weights, read_folder, write_model

import weightvault as wv

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(params=["folder", "server"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a vault with org/model in it."""
    url = str(tmp_path / "vault")
    if request.param == "server":
        url = request.getfixturevalue("live")
    with wv.open(url) as vault:
        folder = write_model(tmp_path / "model", make_weights(1), "# A model\n")
        (folder / "sub").mkdir()
        (folder / "sub" / "data.csv").write_text("a,b\n1,2\n")
        vault.push(folder, "org/model")
        vault["org/model"].tag("v1")
    return url


@pytest.fixture
def fs(url: str) -> Any:
    """The file system, by the entry point that the package declares."""
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    points = project["entry-points"]["fsspec.specs"]
    assert points["wv"] == points["wvs"]
    module, _, name = points["wv"].partition(":")
    for scheme in points:
        kind = getattr(import_module(module), name)
        fsspec.register_implementation(scheme, kind, clobber=True)
    return fsspec.filesystem("wv", vault=url, skip_instance_cache=True)


def test_folders_and_files_are_listed(fs: Any, tmp_path: Path) -> None:
    assert fs.ls("", detail=False) == ["org"]
    assert fs.ls("wv://org", detail=False) == ["org/model"]
    assert sorted(fs.find("org/model@v1")) == sorted(
        f"org/model@v1/{path}" for path in read_folder(tmp_path / "model")
    )
    kinds = {each["name"]: each["type"] for each in fs.ls("org/model")}
    assert (kinds["org/model/sub"], kinds["org/model/README.md"]) == ("directory", "file")
    assert fs.info("org/model/README.md")["size"] == len("# A model\n")
    assert fs.isdir("org/model/sub")
    assert fs.exists("org/model@v1/sub/data.csv")
    assert not fs.exists("org/model@v2/sub/data.csv")
    assert not fs.exists("org/other/x")
    assert fs.glob("org/model/*.json") == ["org/model/config.json"]


def test_ranges_are_read(fs: Any, tmp_path: Path) -> None:
    path, whole = (
        "org/model/model.safetensors",
        (tmp_path / "model" / "model.safetensors").read_bytes(),
    )
    assert fs.cat_file(path) == whole
    assert fs.cat_file(path, 10, 20) == whole[10:20]
    assert fs.cat_file(path, -20) == whole[-20:]
    with fs.open(path) as file:
        file.seek(1000)
        assert file.read(17) == whole[1000:1017]
    fs.get("org/model/sub", str(tmp_path / "out"), recursive=True)
    assert (tmp_path / "out" / "data.csv").read_text() == "a,b\n1,2\n"
    with pytest.raises(FileNotFoundError):
        fs.open("org/model/none")
    with pytest.raises(IsADirectoryError):
        fs.open("org/model")


def test_what_is_written_is_a_commit(fs: Any, url: str) -> None:
    data = np.arange(50_000, dtype=np.int32).tobytes()
    with fs.open("org/model/deep/new.bin", "wb", block_size=1 << 16) as file:
        for start in range(0, len(data), 30_000):
            file.write(data[start : start + 30_000])
    fs.pipe_file("org/new/a.txt", b"first")
    fs.cp_file("org/model/deep/new.bin", "org/new/b.bin")
    assert fs.cat_file("org/model/deep/new.bin") == fs.cat_file("org/new/b.bin") == data
    with pytest.raises(TypeError), fs.open("org/new/c.txt", "wb") as file:
        file.writelines([b"half", None])
    assert not fs.exists("org/new/c.txt")
    fs.rm_file("org/new/a.txt")
    with wv.open(url) as vault:
        assert [f.path for f in vault["org/new"].files()] == ["b.bin"]
        assert len(vault["org/new"].log()) == 3
        assert vault["org/model"].read("README.md") == b"# A model\n"
        assert len(vault["org/model@v1"].files()) == 4


def test_a_server_stands_in_the_address(live: str, tmp_path: Path) -> None:
    from weightvault.api.library.adapters.filesystem import VaultFileSystem

    fsspec.register_implementation("wv", VaultFileSystem, clobber=True)
    address = live.replace("http://", "wv://")
    with fsspec.open(f"{address}/org/run/a.txt", "wb") as file:
        file.write(b"told")
    with fsspec.open(f"{address}/org/run@main/a.txt") as file:
        assert file.read() == b"told"
