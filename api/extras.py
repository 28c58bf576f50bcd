"""What not every installation has: the parts of the package that extras of pip bring."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..dedup.errors import InvalidInput


@contextmanager
def extra(name: str, what: str) -> Iterator[None]:
    """Within, modules are imported that the extra `name` brings. Raises InvalidInput that says how
    to install it, where one lacks; `what` needs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("weightvault"):
            raise
        raise InvalidInput(
            f"{what} needs {error.name}, which is not installed",
            f"pip install 'weightvault[{name}]'",
        ) from error
