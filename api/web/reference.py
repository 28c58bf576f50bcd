"""The page about the HTTP API, made of what the application says of itself; it loads nothing from
elsewhere and obeys the same policy as all pages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response

from ..requests.access import needs, public_endpoint
from .paging import PageRoute
from .rendering import render

_REF = "#/components/schemas/"
# What says that a field has none, or any, type.
_ANY = "anything"

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@dataclass(frozen=True, slots=True)
class Field:
    """A parameter, or a field of a schema: what it is called, where it is given, its type in
    words, and what it means."""

    name: str
    place: str
    type: str
    required: bool
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: its status, what is in it, and what it means."""

    status: str
    type: str
    text: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A method and a path, what they do, what they take and what they answer."""

    anchor: str
    method: str
    path: str
    title: str
    text: str
    parameters: list[Field]
    body: str
    answers: list[Answer]


@dataclass(frozen=True, slots=True)
class Schema:
    """A JSON object that is sent or answered."""

    name: str
    text: str
    fields: list[Field]


@router.get("/docs", dependencies=needs(public_endpoint))
def show_reference(request: Request) -> Response:
    """Every endpoint with its schemas."""
    spec = request.app.openapi()
    return render(
        request,
        "reference.html",
        groups=group_endpoints(spec),
        schemas=[_schema(name, each) for name, each in _schemas(spec)],
    )


def group_endpoints(spec: dict[str, Any]) -> dict[str, list[Endpoint]]:
    """Returns the endpoints of an OpenAPI document by their first tag, in its order."""
    found: dict[str, list[Endpoint]] = {}
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():
            tag = (operation.get("tags") or ["other"])[0]
            found.setdefault(tag, []).append(_endpoint(method.upper(), path, operation))
    return found


def describe_type(schema: dict[str, Any]) -> str:
    """Returns the type that a JSON schema allows, in words."""
    if "$ref" in schema:
        return schema["$ref"].removeprefix(_REF)
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(describe_type(each) for each in schema["anyOf"]))
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    kind = schema.get("type", _ANY)
    if kind == "array":
        return f"list of {describe_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {describe_type(schema['additionalProperties'])}"
    return f"{kind} ({schema['format']})" if "format" in schema else kind


def _endpoint(method: str, path: str, operation: dict[str, Any]) -> Endpoint:
    return Endpoint(
        anchor=operation["operationId"],
        method=method,
        path=path,
        title=operation.get("summary", ""),
        text=operation.get("description", ""),
        parameters=[_parameter(each) for each in operation.get("parameters", [])],
        body=" or ".join(_content(operation.get("requestBody", {}))),
        answers=[
            Answer(status, " or ".join(_content(each)), each.get("description", ""))
            for status, each in operation.get("responses", {}).items()
        ],
    )


def _parameter(parameter: dict[str, Any]) -> Field:
    schema = parameter.get("schema", {})
    text = parameter.get("description", "")
    if "default" in schema:
        text = f"{text} (default: {schema['default']})".strip()
    kind, required = describe_type(schema), parameter.get("required", False)
    return Field(parameter["name"], parameter["in"], kind, required, text)


def _content(holder: dict[str, Any]) -> Iterator[str]:
    """Yields the media types of a body, each with what it holds."""
    for media, each in holder.get("content", {}).items():
        schema = each.get("schema")
        yield f"{media}: {describe_type(schema)}" if schema else media


def _schemas(spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from sorted(spec.get("components", {}).get("schemas", {}).items())


def _schema(name: str, schema: dict[str, Any]) -> Schema:
    required = schema.get("required", [])
    fields = [
        Field(field, "", describe_type(each), field in required, each.get("description", ""))
        for field, each in schema.get("properties", {}).items()
    ]
    return Schema(name, schema.get("description", ""), fields)
