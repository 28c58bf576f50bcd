"""The JSON bodies of our own API that hold long lists: read with a limit, and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from ...dedup.model.sketch import Sketch, check_sketch
from ..protocol.wire import MAX_JSON_BODY_BYTES
from ..requests.uploads import received_bytes
from .schemas import DigestsSchema, FramesAskedSchema, SketchesSchema


async def digests_of(request: Request) -> list[bytes]:
    """Returns the digests of a JSON body, which is not read beyond its limit."""
    body = await received_bytes(request, MAX_JSON_BODY_BYTES)
    try:
        asked = DigestsSchema.model_validate_json(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error
    return _parse(asked.digests)


@dataclass(frozen=True, slots=True)
class FramesAsked:
    """Chunks whose frames are asked for, and by chunk those that the client has; None where it
    does not say."""

    digests: list[bytes]
    offers: dict[bytes, list[bytes]] | None


async def frames_of(request: Request) -> FramesAsked:
    """Returns what a JSON body asks for, which is not read beyond its limit."""
    body = await received_bytes(request, MAX_JSON_BODY_BYTES)
    try:
        asked = FramesAskedSchema.model_validate_json(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error
    offers = None
    if asked.offers is not None:
        offers = {bytes.fromhex(d): _parse(each) for d, each in asked.offers.items()}
    return FramesAsked(_parse(asked.digests), offers)


def _parse(digests: Sequence[str]) -> list[bytes]:
    return [bytes.fromhex(digest) for digest in digests]


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
FramesParam = Annotated[FramesAsked, Depends(frames_of)]
SketchesParam = Annotated[list[Sketch], Depends(sketches_of)]
