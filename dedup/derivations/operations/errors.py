"""What is wrong with a recipe."""

from __future__ import annotations

from ....codecs.errors import CorruptFrame


class InvalidRecipe(CorruptFrame):
    """A recipe that no writer would have written: what it names does not fit together, or asks for
    work out of proportion to its output."""
