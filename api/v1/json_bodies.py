"""The JSON bodies of our own API that hold long lists: read with a limit, and checked."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from ...dedup.model.sketch import Sketch, check_sketch
from ..protocol.wire import MAX_JSON_BODY_BYTES
from ..requests.uploads import received_bytes
from .schemas import DigestsSchema, SketchesSchema


async def digests_of(request: Request) -> list[bytes]:
    """Returns the digests of a JSON body, which is not read beyond its limit."""
    body = await received_bytes(request, MAX_JSON_BODY_BYTES)
    try:
        asked = DigestsSchema.model_validate_json(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error
    return [bytes.fromhex(digest) for digest in asked.digests]


async def sketches_of(request: Request) -> list[Sketch]:
    """Returns the sketches of a JSON body, which is not read beyond its limit."""
    body = await received_bytes(request, MAX_JSON_BODY_BYTES)
    try:
        asked = SketchesSchema.model_validate_json(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error
    return [
        check_sketch(Sketch(s.dtype, s.size, bytes.fromhex(s.bits), bytes.fromhex(s.words)))
        for s in asked.sketches
    ]


DigestsParam = Annotated[list[bytes], Depends(digests_of)]
SketchesParam = Annotated[list[Sketch], Depends(sketches_of)]
