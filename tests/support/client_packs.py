"""Packs of raw frames, as a client that keeps no rules may make them."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import httpx

from weightvault.dedup.reading.timed_codecs import encode_tensor
from weightvault.dedup.repository.pack_writing import add_frame
from weightvault.store.packs import PackWriter


def make_pack(raws: Sequence[bytes]) -> tuple[str, bytes]:
    """A pack of frames of chunks, its name first."""
    target = BytesIO()
    writer = PackWriter(target)
    for raw in raws:
        add_frame(writer, encode_tensor(raw, "U8"))
    return writer.finish(), target.getvalue()


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]
