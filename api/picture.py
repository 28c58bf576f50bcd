"""Draws families of models as SVG: centres in the middle, members around them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

from .console import format_bytes, format_count

if TYPE_CHECKING:
    from ..dedup.vault import Family, FamilyMember

_CELL = 360
_COLUMNS = 3
_HEAD = 56
# A member this far away in sketch bits, a tenth, is drawn at the rim.
_RIM_DISTANCE = 0.1
_INNER, _OUTER = 60, 130
_STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#222}.head{font-weight:600;font-size:13px}"
    ".note{fill:#666}.link{stroke:#9ab;stroke-width:1.2}.centre{fill:#26547c}.member{fill:#7fb069}"
)


def draw_families(families: Sequence[Family]) -> str:
    """Returns an SVG document: areas are stored bytes, distances those of the sketches."""
    columns = max(1, min(_COLUMNS, len(families)))
    rows = max(1, -(-len(families) // columns))
    width, height = columns * _CELL, rows * (_CELL + _HEAD)
    largest = max((m.stored for f in families for m in f.members), default=1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="families of models">',
        f"<style>{_STYLE}</style>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for i, family in enumerate(families):
        x, y = i % columns * _CELL, i // columns * (_CELL + _HEAD)
        parts.append(f'<g transform="translate({x} {y})">')
        parts.extend(_draw_family(family, max(1, largest)))
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def _draw_family(family: Family, largest: int) -> Iterator[str]:
    middle_x, middle_y = _CELL / 2, _HEAD + _CELL / 2
    size = f"{format_bytes(family.raw)} raw, {format_bytes(family.stored)} stored"
    yield f'<text class="head" x="12" y="22">{escape(family.centre)}</text>'
    count = format_count(len(family.members), "model")
    yield f'<text class="note" x="12" y="40">{count}, {size}</text>'
    centre, *others = family.members
    for i, member in enumerate(others):
        angle = 2 * math.pi * i / len(others) - math.pi / 2
        reach = _INNER + (_OUTER - _INNER) * min(1.0, member.distance / _RIM_DISTANCE)
        x, y = middle_x + reach * math.cos(angle), middle_y + reach * math.sin(angle)
        yield (
            f'<line class="link" x1="{middle_x:.1f}" y1="{middle_y:.1f}" '
            f'x2="{x:.1f}" y2="{y:.1f}"/>'
        )
        yield _draw_member(member, x, y, "member", largest)
    yield _draw_member(centre, middle_x, middle_y, "centre", largest)


def _draw_member(member: FamilyMember, x: float, y: float, kind: str, largest: int) -> str:
    radius = 5 + 23 * math.sqrt(member.stored / largest)
    label = escape(member.repo.rpartition("/")[2])
    about = f"{member.repo}: {format_bytes(member.stored)} stored, {member.distance:.2%} away"
    return (
        f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}">'
        f"<title>{escape(about)}</title></circle>"
        f'<text x="{x:.1f}" y="{y + radius + 12:.1f}" text-anchor="middle">{label}</text>'
    )
