"""What /openapi.json says of requests and failures that handlers do not declare by their types."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from .schemas import DigestsSchema, ErrorSchema, FramesAskedSchema, SketchesSchema

_MEANINGS = {
    400: "The request asks for something that is never possible",
    401: "A token is needed, or the one given is not valid",
    403: "The token does not allow this, or the request came from another site",
    404: "There is no such thing, or the caller may not know of it",
    409: "It conflicts with the present state",
    413: "Too large, too dear, or beyond a quota",
    415: "The body is of a type that this endpoint does not take",
    422: "The request does not fit its schema",
    429: "Too many requests: try again",
    500: "Stored data is damaged, or the server failed",
    503: "Overloaded, or the object store or catalogue does not answer: try again",
    507: "The disk is full",
}

FAILURES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorSchema, "description": text} for status, text in _MEANINGS.items()
}
"""The failures that any endpoint may answer with."""

NAME: dict[str, Any] = {"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$", "maxLength": 96}
"""What each part of a repo's name looks like; names.check_repo is what decides."""


def describe_body(media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Describes a body that a handler reads itself, with a limit."""
    return {"requestBody": {"required": True, "content": {media_type: {"schema": schema}}}}


def _inline(model: type[BaseModel]) -> dict[str, Any]:
    """Returns a model's schema with those that it refers to in their places: references would lead
    into the document that the schema becomes part of."""
    schema = model.model_json_schema()
    parts = schema.pop("$defs", {})

    def resolve(value: Any) -> Any:
        if isinstance(value, list):
            return [resolve(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value:
            return resolve(parts[value["$ref"].rpartition("/")[2]])
        return {key: resolve(item) for key, item in value.items()}

    return resolve(schema)


BINARY_BODY = describe_body("application/octet-stream", {"type": "string", "format": "binary"})
DIGESTS_BODY = describe_body("application/json", _inline(DigestsSchema))
FRAMES_BODY = describe_body("application/json", _inline(FramesAskedSchema))
SKETCHES_BODY = describe_body("application/json", _inline(SketchesSchema))
