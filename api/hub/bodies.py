"""What requests of hub clients carry in their bodies, taken in within bounds."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from ...dedup.model.strict_json import MAX_VALUES, InvalidJson, parse_json_object
from .errors import HubError

_MOST_FIELDS = 10_000


def parse_object(
    body: bytes, what: str = "the body", most_values: int = MAX_VALUES
) -> dict[str, Any]:
    """Returns the JSON object that a body is; raises HubError for anything else."""
    try:
        return parse_json_object(body, most_values=most_values)
    except InvalidJson as error:
        raise HubError(400, f"{what} is not the JSON that is expected: {error.message}") from error


def parse_form(body: bytes) -> dict[str, list[str]]:
    """Returns the fields of a form-encoded body; raises HubError where there are too many."""
    try:
        return parse_qs(
            body.decode(errors="replace"), keep_blank_values=True, max_num_fields=_MOST_FIELDS
        )
    except ValueError as error:
        raise HubError(400, f"a form has at most {_MOST_FIELDS} fields") from error
