"""Which of the three implementations of the entropy coder runs: all give the same bytes."""

from functools import cache
from typing import Any

PATHS = ("portable", "avx2", "avx512")
"""In the order in which they are preferred, least first."""

_forced: str | None = None


@cache
def target_features() -> frozenset[str]:
    """Returns the processor features that Numba compiles for, as LLVM names them."""
    from numba.core.registry import cpu_target

    context: Any = cpu_target.target_context
    listed = context.codegen().magic_tuple()[2]
    return frozenset(item[1:] for item in listed.split(",") if item.startswith("+"))


@cache
def available_paths() -> tuple[str, ...]:
    """Returns the paths this machine can run, least preferred first."""
    from .vector_sets import Avx2, Avx512

    needs = {"portable": (), "avx2": Avx2.features, "avx512": Avx512.features}
    return tuple(path for path in PATHS if target_features().issuperset(needs[path]))


def force_path(path: str | None) -> None:
    """Makes all later coding use ``path``; None goes back to the best one. Frames do not change.

    Raises ValueError for a path that does not exist or that this machine cannot run.
    """
    global _forced
    if path is not None and path not in available_paths():
        raise ValueError(f"unknown path {path!r}; this machine has {', '.join(available_paths())}")
    _forced = path


def current_path() -> str:
    """Returns the path in use."""
    return _forced or available_paths()[-1]


def path_number() -> int:
    """Returns the place of the path in use in ``PATHS``, which is what kernels take."""
    return PATHS.index(current_path())
