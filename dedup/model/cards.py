"""Model cards: the YAML front matter of a README.md, which is text of unknown origin.

One reader for all who ask: libyaml parses, and nothing is built but plain JSON values. Aliases and
anchors, with which a few bytes stand for gigabytes, are refused, and so are tags, which name types
to construct. Bytes, nodes and depth are bounded, so that reading is linear in the bytes and short.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import yaml

from ..errors import InvalidInput

CARD = "README.md"

MAX_FRONT_MATTER_BYTES = 256 * 1024
"""The longest front matter that is read. Tables of benchmark results make some of 150 KB."""
MAX_CARD_HEAD_BYTES = MAX_FRONT_MATTER_BYTES + 64
"""What of a card is enough to read its front matter, or to see that it is too long."""
MAX_NODES = 50_000
MAX_DEPTH = 32

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

_FENCE = re.compile(r"---[ \t]*\n")
_DECIMAL = re.compile(r"[-+]?[0-9]{1,19}")
_HEXADECIMAL = re.compile(r"[-+]?0[xX][0-9a-fA-F]{1,15}")
_TRUE = {"true", "yes", "on"}
_TAG = "tag:yaml.org,2002:"


class InvalidCard(InvalidInput):
    """Front matter that is no YAML, no mapping, or beyond the bounds of this module."""

    code = "invalid_card"


def split_card(text: str) -> tuple[str | None, str]:
    """Returns the front matter of a card, None where it has none, and the Markdown after it.

    Front matter that nothing closes may still be some; its text is Markdown, too.
    """
    plain = text.removeprefix("\ufeff").replace("\r\n", "\n")
    opening = _FENCE.match(plain)
    if opening is None:
        return None, plain
    # The line break of the opening fence may be that of the closing one.
    end = plain.find("\n---", opening.end() - 1)
    if end < 0:
        return plain[opening.end() :], plain
    matter = plain[opening.end() : end]
    return matter, plain[end + 4 :].partition("\n")[2]


def read_front_matter(card: bytes) -> dict[str, Json]:
    """Returns the front matter of a card that begins with the bytes `card`; nothing where it has
    none, or one that `parse_front_matter` refuses."""
    text = card[:MAX_CARD_HEAD_BYTES].decode(errors="replace")
    matter, _ = split_card(text)
    try:
        return {} if matter is None else parse_front_matter(matter)
    except InvalidCard:
        return {}


def parse_front_matter(matter: str) -> dict[str, Json]:
    """Returns front matter as JSON values; raises InvalidCard.

    Dates, numbers beyond 64 bits and those that are not finite stay the texts they are written as;
    keys become texts; of a key that is repeated the last value counts.
    """
    try:
        encoded = matter.encode()
    except UnicodeEncodeError as error:
        raise InvalidCard("the front matter is not valid Unicode") from error
    if len(encoded) > MAX_FRONT_MATTER_BYTES:
        raise InvalidCard(
            f"the front matter has {len(encoded)} bytes; at most {MAX_FRONT_MATTER_BYTES} are read"
        )
    try:
        found = _Builder(encoded).build()
    except yaml.YAMLError as error:
        raise InvalidCard(f"the front matter is not YAML: {error}") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise InvalidCard("the front matter is no mapping")
    return found


class _Builder:
    """Makes JSON values of the events of one YAML document."""

    def __init__(self, encoded: bytes) -> None:
        self._loader = yaml.CSafeLoader(encoded)
        self._nodes = 0

    def build(self) -> Json:
        """Returns the value of the only document, None if there is none."""
        try:
            self._next(yaml.StreamStartEvent)
            if isinstance(self._loader.peek_event(), yaml.StreamEndEvent):
                return None
            self._next(yaml.DocumentStartEvent)
            value = self._value(self._loader.get_event(), 0)
            self._next(yaml.DocumentEndEvent)
            self._next(yaml.StreamEndEvent)
            return value
        finally:
            self._loader.dispose()

    def _next(self, kind: type[Any]) -> None:
        if not isinstance(self._loader.get_event(), kind):
            raise InvalidCard("the front matter is more than one YAML document")

    def _value(self, event: Any, depth: int) -> Json:
        self._nodes += 1
        if self._nodes > MAX_NODES or depth > MAX_DEPTH:
            raise InvalidCard(
                f"the front matter has more than {MAX_NODES} values or {MAX_DEPTH} levels"
            )
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise InvalidCard("the front matter has anchors or aliases", "write values out")
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if event.tag is not None:
            raise InvalidCard(f"the front matter has a tag, {event.tag!r}", "leave tags out")
        if isinstance(event, yaml.SequenceStartEvent):
            return [self._value(item, depth + 1) for item in self._until(yaml.SequenceEndEvent)]
        return {
            self._key(key): self._value(self._loader.get_event(), depth + 1)
            for key in self._until(yaml.MappingEndEvent)
        }

    def _until(self, end: type[Any]) -> Iterator[Any]:
        while not isinstance(event := self._loader.get_event(), end):
            yield event

    def _key(self, event: Any) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise InvalidCard("a key of the front matter is no text")
        self._value(event, 0)
        return event.value

    def _scalar(self, event: Any) -> Json:
        if event.tag is not None:
            raise InvalidCard(f"the front matter has a tag, {event.tag!r}", "leave tags out")
        kind = self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        return _plain_value(kind.removeprefix(_TAG), event.value)


def _plain_value(kind: str, text: str) -> Json:
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() in _TRUE
    if kind == "int":
        return _integer(text.replace("_", ""), text)
    return _finite(text) if kind == "float" else text


def _integer(digits: str, text: str) -> int | str:
    """The number, if it is one of 64 bits; octal, binary and base-60 ones stay texts."""
    if _HEXADECIMAL.fullmatch(digits):
        return int(digits, 16)
    octal = digits.lstrip("+-").startswith("0") and len(digits.lstrip("+-")) > 1
    if octal or not _DECIMAL.fullmatch(digits):
        return text
    number = int(digits)
    return number if -(1 << 63) <= number < 1 << 63 else text


def _finite(text: str) -> float | str:
    try:
        number = float(text.replace("_", ""))
    except ValueError:
        # Base 60, or one of YAML's names for what is not finite.
        return text
    return number if math.isfinite(number) else text
