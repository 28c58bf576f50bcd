"""What requests of hub clients carry in their bodies."""

from __future__ import annotations

import json
from typing import Any

from .errors import HubError


def parse_object(body: bytes) -> dict[str, Any]:
    """Returns the JSON object that a body is; raises HubError for anything else."""
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HubError(400, f"the body is not JSON: {error}") from error
    if not isinstance(asked, dict):
        raise HubError(400, "the body is no JSON object")
    return asked
