"""Requests made of the documented API, good and bad, get documented answers and no failures.

A short and seeded relative of `benchmarks/attacks/schema.py`, which lets schemathesis do this.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hostile_requests import Target, attacked, push_card

from weightvault.api.requests.tokens import create_token

SEEDS = 12
ODD: tuple[Any, ...] = (
    *("", "\u202e", "é" * 200, "a" * 3000, "../..", "🙂", "null", "'", "%", " ", "\n", "refs/pr/1"),
    *(-1, 0, 1 << 62, 1 << 70, 1e308, True, None, [], {}, [[]], {"a": 1}),
)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    root = tmp_path_factory.mktemp("schema")
    with attacked(root / "served") as found:
        push_card(found, root / "model", "# A model\n")
        yield found


@pytest.fixture(scope="module")
def secrets(target: Target) -> list[str | None]:
    """Nobody's, a namespace's and an administrator's token."""
    own = create_token(target.vault, "own", "write", "org").secret
    return [None, own, create_token(target.vault, "all", "admin", None).secret]


def make_value(rng: random.Random, schema: dict[str, Any]) -> Any:
    """A value that fits a schema, or now and then does not."""
    if rng.random() < 0.15:
        return rng.choice(ODD)
    if "anyOf" in schema:
        return make_value(rng, rng.choice(schema["anyOf"]))
    if "enum" in schema:
        return rng.choice(schema["enum"])
    kind = schema.get("type")
    if kind == "object":
        return {k: make_value(rng, v) for k, v in schema.get("properties", {}).items()}
    if kind == "array":
        return [make_value(rng, schema.get("items", {})) for _ in range(rng.choice([0, 1, 3]))]
    if kind in ("integer", "number"):
        return rng.choice([0, 1, 2, 1 << 40])
    if kind == "boolean":
        return rng.random() < 0.5
    if schema.get("pattern", "").startswith("^[0-9a-f]"):
        return rng.randbytes(32).hex()
    return rng.choice(["org", "m", "main", "README.md", "2026-01-01", "repo"])


def known(rng: random.Random, name: str, schema: dict[str, Any]) -> Any:
    """The value of a parameter, mostly one that is there."""
    there = {"namespace": "org", "name": "m", "path": "README.md", "revision": "main"}
    return there[name] if name in there and rng.random() < 0.6 else make_value(rng, schema)


def make_request(rng: random.Random, path: str, operation: dict[str, Any]) -> tuple[str, bytes]:
    """An address and a body for an operation."""
    query = []
    for parameter in operation.get("parameters", []):
        value = known(rng, parameter["name"], parameter["schema"])
        text = quote(str(value), safe="", errors="replace")
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", text)
        elif rng.random() < 0.5:
            query.append(f"{parameter['name']}={text}")
    content = operation.get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema")
    body = json.dumps(make_value(rng, schema)).encode() if schema else rng.randbytes(50)
    return f"{path}?{'&'.join(query)}", body if content else b""


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every method, path and operation of a document."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_answers_are_as_documented(target: Target, secrets: list[str | None]):
    document = target.http.get("/openapi.json").json()
    seen: set[int] = set()
    for method, path, operation in operations(document):
        # What is asked about shall stay.
        if method == "DELETE":
            continue
        for seed in range(SEEDS):
            rng = random.Random(f"{method} {path} {seed}")
            address, body = make_request(rng, path, operation)
            secret = secrets[seed % len(secrets)]
            headers = {"Authorization": f"Bearer {secret}"} if secret else {}
            if "application/json" in operation.get("requestBody", {}).get("content", {}):
                headers["Content-Type"] = "application/json"
            answer = target.http.request(method, address, content=body, headers=headers)
            assert str(answer.status_code) in operation["responses"], (method, address, answer.text)
            assert answer.status_code < 500, (method, address, answer.text)
            seen.add(answer.status_code)
    assert {200, 400, 401, 403, 404, 422} <= seen


def test_the_document_describes_all_that_it_names(target: Target):
    document = target.http.get("/openapi.json").json()
    for method, path, operation in operations(document):
        named = {part[1:-1] for part in path.split("/") if part.startswith("{")}
        described = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
        assert named == described, (method, path)
        assert "default" not in operation["responses"], (method, path)
    for reference in _references(document):
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


def test_an_address_tells_all_its_methods(target: Target):
    document = target.http.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        named = path.replace("{", "").replace("}", "")
        answer = target.http.request("OPTIONS", named)
        told = {method.lower() for method in answer.headers["allow"].split(", ")}
        assert (answer.status_code, told) == (405, set(methods)), path


def test_the_document_says_who_is_refused_and_what_names_are(target: Target):
    document = target.http.get("/openapi.json").json()
    for method, path, operation in operations(document):
        # It tells anybody whether the server works.
        assert ("401" in operation["responses"]) == (path != "/health"), (method, path)
        for parameter in operation.get("parameters", []):
            if parameter["name"] in ("namespace", "name") and parameter["in"] == "path":
                assert parameter["schema"]["pattern"], (method, path)


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)
