"""The helpers of the tests, for benchmarks that need the same: the one place that knows where they
lie. They are no package, since tests run against an installed wheel, which has none of them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "support"


def load_helper(name: str) -> ModuleType:
    """Returns a module of tests/support, which may import others of them."""
    if str(FOLDER) not in sys.path:
        # Last: nothing of these shall hide anything else.
        sys.path.append(str(FOLDER))
    return importlib.import_module(name)
