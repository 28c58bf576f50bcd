"""Alters frames and makes their checksums right again, to reach what the checksums shield."""

import xxhash

from weightvault.codecs.frame import parse_header


def reseal(frame: bytes, header_bytes: int) -> bytes:
    """Returns the frame with the checksum of its first ``header_bytes`` bytes put right."""
    seal = xxhash.xxh3_64_intdigest(frame[:header_bytes]).to_bytes(8, "little")
    return frame[:header_bytes] + seal + frame[header_bytes + 8 :]


def with_field(frame: bytes, offset: int, value: int, size: int) -> bytes:
    """Returns the frame with an integer of its header replaced and the header sealed again."""
    header = parse_header(frame)
    changed = frame[:offset] + value.to_bytes(size, "little") + frame[offset + size :]
    return reseal(changed, header.body_offset - 8)


def with_blocks(frame: bytes, blocks: list[bytes]) -> bytes:
    """Returns the frame with other stored blocks and a block table that is right about them."""
    header = parse_header(frame)
    table_at = header.body_offset - 8 - len(header.block_table)
    table = b"".join(
        len(block).to_bytes(4, "little")
        + (xxhash.xxh3_64_intdigest(block) & 0xFFFFFFFF).to_bytes(4, "little")
        for block in blocks
    )
    head = frame[:table_at] + table + bytes(8)
    return reseal(head + b"".join(blocks), len(head) - 8)


def stored_blocks(frame: bytes) -> list[bytes]:
    """Returns the stored blocks of a frame."""
    spans = parse_header(frame).spans()
    return [frame[span.offset : span.offset + span.stored_bytes] for span in spans]
