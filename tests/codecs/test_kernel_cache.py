"""Where compiled kernels are kept when Numba finds no place of its own."""

from __future__ import annotations

import importlib.util
import stat
import tempfile
from pathlib import Path

import numba.core.caching as caching
import numba.core.config as config
import pytest

from weightvault.codecs.jit import cached

SOURCE = """
def double(value):
    return 2 * value
"""


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a container with a read-only root and a user without a home; temporary files go to a
    folder of the test."""
    for locator in (caching.InTreeCacheLocator, caching.UserWideCacheLocator):
        monkeypatch.setattr(locator, "from_function", lambda *_: None)
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setattr(cached, "_settled", False)
    monkeypatch.setattr(cached, "_named", [])
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


def run_kernel(folder: Path) -> int:
    """Compiles a function of a module in `folder`, and calls it."""
    folder.mkdir(exist_ok=True)
    path = folder / "kernels.py"
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("kernels", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return cached.njit(nogil=True, cache=True)(module.double)(21)


def kept(folder: Path) -> list[str]:
    return [file.name for file in folder.rglob("*.nbi")]


def test_named_folders_come_first(tmp_path: Path):
    cached.add_cache_folder(tmp_path / "vault" / "tmp" / "kernels")
    cached.add_cache_folder(tmp_path / "named")
    assert run_kernel(tmp_path / "m") == 42
    assert len(kept(tmp_path / "named")) == 1
    assert stat.S_IMODE((tmp_path / "named").stat().st_mode) == 0o700
    assert kept(tmp_path / "tmp") == []


def test_a_folder_that_others_write_to_is_not_trusted(tmp_path: Path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o770)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "m", target_is_directory=True)
    for folder in (shared, link):
        cached.add_cache_folder(folder)
    assert run_kernel(tmp_path / "m") == 42
    assert kept(shared) == []
    assert len(kept(tmp_path / "tmp")) == 1


def test_without_any_place_kernels_are_compiled_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    assert run_kernel(tmp_path / "m") == 42
    assert kept(tmp_path) == []


def test_what_an_image_brings_is_used(tmp_path: Path):
    beside = tmp_path / "m" / "__pycache__"
    beside.mkdir(parents=True)
    (beside / "kernels.double-2.py3.nbi").write_bytes(b"index")
    (beside / "kernels.cpython.pyc").write_bytes(b"bytecode")
    assert run_kernel(tmp_path / "m") == 42
    (cache,) = (tmp_path / "tmp").iterdir()
    found = {file.name for folder in cache.iterdir() for file in folder.iterdir()}
    assert "kernels.double-2.py3.nbi" in found
    assert "kernels.cpython.pyc" not in found


def test_other_failures_are_not_hidden(tmp_path: Path):
    def decorate(_: object) -> object:
        raise RuntimeError("something else")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("numba.njit", lambda **_: decorate)
        with pytest.raises(RuntimeError, match="something else"):
            run_kernel(tmp_path / "m")
