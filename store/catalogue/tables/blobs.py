"""Columns of bytes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import LargeBinary
from sqlalchemy.types import TypeDecorator

from ...packs import DIGEST_BYTES


class Blob(LargeBinary):
    """Bytes, which both drivers take and give as they are: to convert them, as SQLAlchemy does,
    takes as long as to store them."""

    def bind_processor(self, dialect: Any) -> None:
        """Says that nothing is converted."""

    def result_processor(self, dialect: Any, coltype: Any) -> None:
        """Says that nothing is converted."""


class Digests(TypeDecorator[tuple[bytes, ...]]):
    """Digests back to back, NULL for none."""

    impl = Blob
    cache_ok = True

    def process_bind_param(self, value: tuple[bytes, ...] | None, dialect: Any) -> bytes | None:
        """Puts them together."""
        return b"".join(value) if value else None

    def process_result_value(self, value: bytes | None, dialect: Any) -> tuple[bytes, ...]:
        """Takes them apart."""
        if value is None or len(value) <= DIGEST_BYTES:
            return (value,) if value else ()
        return tuple(value[i : i + DIGEST_BYTES] for i in range(0, len(value), DIGEST_BYTES))
