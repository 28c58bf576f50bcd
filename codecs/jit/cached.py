"""Numba's `njit`, with a cache that is always found, or none, and never an error for that.

Numba keeps compiled code in NUMBA_CACHE_DIR, beside the module, or in the cache of the user
(XDG_CACHE_HOME, HOME), and raises where it may write to none of these: in a container with a
read-only root and a user without a home. The next are then tried, in this order:

1. folders that a program named with `add_cache_folder`, such as one in its vault;
2. a folder of this user alone below the system's for temporary files;
3. nothing: every process compiles anew.

What lies in such a folder is loaded as code, so one that others may write to is not taken. Code
that was compiled before, when an image was built, lies beside the modules and is copied.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

_SUFFIXES = (".nbi", ".nbc")


if TYPE_CHECKING:
    IS_COMPILED: bool
    """False where Numba only interprets, as fuzzers make it: emitted loops cannot run then."""


def __getattr__(name: str) -> Any:
    """Looks at Numba for IS_COMPILED when a kernel asks, which who only looks at a vault never
    pays for."""
    if name != "IS_COMPILED":
        raise AttributeError(name)
    config: Any = import_module("numba.core.config")
    return not config.DISABLE_JIT


_named: list[Path] = []
_settled = False


def add_cache_folder(folder: Path) -> None:
    """Names a folder for compiled kernels, where Numba finds no place of its own; made when it is
    needed. Only what is named before the first kernel is loaded counts."""
    if folder not in _named:
        _named.append(folder)


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Returns the decorator that numba.njit returns for these options."""
    numba: Any = import_module("numba")

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(**options)(function)
        except RuntimeError as error:
            # The one thing that Numba raises so early is that it has no place for a cache.
            if not options.get("cache") or "cannot cache" not in str(error):
                raise
        if settle_cache(Path(function.__code__.co_filename).parent):
            return numba.njit(**options)(function)
        return numba.njit(**{**options, "cache": False})(function)

    return decorate


def settle_cache(shipped: Path) -> bool:
    """Makes Numba use the first folder that serves; says whether there is one. What was compiled
    beside the modules in `shipped` is copied there."""
    global _settled
    config: Any = import_module("numba.core.config")
    if not _settled:
        _settled = True
        folder = next(filter(_is_usable, _candidates()), None)
        if folder is not None:
            config.CACHE_DIR = str(folder)
    if not config.CACHE_DIR:
        return False
    _copy_shipped(shipped, Path(config.CACHE_DIR))
    return True


def _candidates() -> Iterator[Path]:
    yield from _named
    yield Path(tempfile.gettempdir(), f"weightvault-kernels-{os.geteuid()}")


def _is_usable(folder: Path) -> bool:
    """Makes a folder, and says whether it is this user's alone and may be written to."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            return False
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return False
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def _copy_shipped(modules: Path, cache: Path) -> None:
    caching: Any = import_module("numba.core.caching")
    # Numba's own name for what lies beside a module of this folder.
    name = caching.UserProvidedCacheLocator.get_suitable_cache_subpath(str(modules / "module.py"))
    target = cache / name
    with suppress(OSError):
        if target.exists():
            return
        target.mkdir(mode=0o700)
        for file in (modules / "__pycache__").iterdir():
            if file.suffix in _SUFFIXES:
                shutil.copyfile(file, target / file.name)
