"""What tests of the codecs leave as they found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from weightvault.codecs.simd import paths


@pytest.fixture(autouse=True)
def best_path_again() -> Iterator[None]:
    """Takes back what a test chose of the instruction sets."""
    yield
    paths.force_path(None)
