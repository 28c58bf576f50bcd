"""JSON from outside, read within bounds.

The standard library builds whatever it is sent: objects that take a hundred times the memory of
their text, integers of thousands of digits, infinities, halves of surrogate pairs that no answer
can hold, and the last of several equal keys. Here all of these are errors, and what would be built
is counted before anything is.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

from ..errors import InvalidInput

MAX_VALUES = 100_000
MAX_DEPTH = 32

# A string matches from its quote on, to the end of the text if need be: so all of this is linear.
_TEXT = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)'
_STRING = re.compile(_TEXT, re.DOTALL)
# Looked at together: a part of the text that ends outside of strings.
_WINDOW = re.compile(rb'(?:[^"]{1,65536}+|' + _TEXT + rb"){1,1024}+", re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_MAX_DIGITS = 19


class InvalidJson(InvalidInput):
    """Bytes that are not JSON, or JSON beyond the bounds of this module."""

    code = "invalid_json"


def parse_json(
    data: bytes,
    *,
    most_values: int = MAX_VALUES,
    most_depth: int = MAX_DEPTH,
    make_object: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> Any:
    """Returns the value that `data` is, in UTF-8; raises InvalidJson.

    `most_values` bounds strings, numbers, arrays, objects and keys together. `make_object` makes
    what stands for an object of its distinct keys and values; without it that is a dict.
    """
    check_structure(data, most_values, most_depth)

    def build(pairs: list[tuple[str, Any]]) -> Any:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise InvalidJson("a JSON object has a key twice")
        return make_object(pairs) if make_object else found

    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=build,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_refuse_constant,
        )
    except (ValueError, RecursionError) as error:
        raise InvalidJson(f"this is not JSON: {error}") from error
    if _SURROGATE.search(data):
        _check_surrogates(value)
    return value


def parse_json_object(data: bytes, **bounds: Any) -> dict[str, Any]:
    """Returns the JSON object that `data` is; raises InvalidJson, for other values, too."""
    found = parse_json(data, **bounds)
    if not isinstance(found, dict):
        raise InvalidJson("this is no JSON object")
    return found


def check_structure(data: bytes, most_values: int, most_depth: int) -> None:
    """Raises InvalidJson where text has more values or levels than allowed; builds nothing."""
    values, depth = 1, 0
    for window in _WINDOW.finditer(data):
        outline = _STRING.sub(b"", window[0])
        values += sum(map(outline.count, (b",", b"[", b"{", b":")))
        if values > most_values:
            raise InvalidJson(f"this JSON has more than {most_values} values")
        depth = _depth_after(outline, depth, most_depth)


def _depth_after(outline: bytes, depth: int, most_depth: int) -> int:
    """Returns the depth after some text without strings. Raises InvalidJson if it is exceeded."""
    for bracket in _BRACKET.findall(outline):
        depth += 1 if bracket in b"[{" else -1
        if depth > most_depth:
            raise InvalidJson(f"this JSON has more than {most_depth} levels")
    return depth


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS + 1 or not -(1 << 63) <= int(text) < 1 << 63:
        raise InvalidJson("a number in this JSON has more than 64 bits")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise InvalidJson("a number in this JSON is not finite")
    return number


def _refuse_constant(text: str) -> None:
    raise InvalidJson(f"{text} is no value of JSON")


def _check_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        raise InvalidJson("a text in this JSON has half of a surrogate pair") from error
