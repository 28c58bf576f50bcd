"""Draws families of models as SVG: a row for each model, as far from the centre as it is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

from ...formatting import format_bytes, format_count

if TYPE_CHECKING:
    from ....dedup.model.families import Family, FamilyMember

_WIDTH = 860
_HEAD, _ROW, _FOOT, _GAP = 52, 26, 26, 18
# Distances are drawn from the left edge of the plot to its right one; names follow the dots.
_LEFT, _RIGHT = 30, 520
# Characters of a name that fit to the right of the farthest dot; the whole name is in its title.
_NAME = 32
# What is computed stands so far to the right of what it is computed from.
_STEP = 18
_LEAST_RADIUS, _MOST_RADIUS = 3.0, 11.0
# Where the axis of a family may end: shares of sketch bits.
_ENDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#222}.head{font-weight:600;font-size:14px}"
    ".note{fill:#666}.tick{fill:#666;font-size:11px}.grid{stroke:#e4e8ec}"
    ".link{stroke:#9ab;stroke-width:1.2}.centre{fill:#26547c}.member{fill:#7fb069}"
    ".copy{fill:#e8a33d}path.link{fill:none}"
)


def draw_families(families: Sequence[Family]) -> str:
    """Returns an SVG document: areas are stored bytes, distances those of the sketches."""
    heights = [_HEAD + _ROW * len(family.members) + _FOOT + _GAP for family in families]
    height = max(_HEAD, sum(heights))
    largest = max((m.stored for f in families for m in f.members), default=1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img" aria-label="families of models">',
        f"<style>{_STYLE}</style>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
    ]
    for i, family in enumerate(families):
        parts.append(f'<g transform="translate(0 {sum(heights[:i])})">')
        parts.extend(_draw_family(family, max(1, largest)))
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def _draw_family(family: Family, largest: int) -> Iterator[str]:
    size = f"{format_bytes(family.raw)} raw, {format_bytes(family.stored)} stored"
    count = format_count(len(family.members), "model")
    yield f'<text class="head" x="12" y="22">{escape(family.centre)}</text>'
    yield f'<text class="note" x="12" y="41">{count}, {size}</text>'
    farthest = max((member.distance for member in family.members[1:]), default=0.0)
    end = next((end for end in _ENDS if farthest <= end), 1.0)
    if len(family.members) > 1:
        yield from _draw_axis(end, _HEAD + _ROW * len(family.members))
    below = family.place_members()
    row = 0
    for member in [*family.members[:1], *below.get(family.centre, ())]:
        y = _HEAD + _ROW * (row + 0.5)
        # The centre's own tensors differ from theirs where others' are better bases.
        x = _LEFT + (_RIGHT - _LEFT) * (min(1.0, member.distance / end) if row else 0.0)
        if row:
            yield f'<line class="link" x1="{_LEFT}" y1="{y:.1f}" x2="{x:.1f}" y2="{y:.1f}"/>'
        yield _draw_member(member, x, y, "member" if row else "centre", largest)
        row += 1
        for copy in below.get(member.repo, ()) if row > 1 else ():
            at = _HEAD + _ROW * (row + 0.5)
            path = f"M{x:.1f} {y:.1f}V{at:.1f}h{_STEP}"
            yield f'<path class="link" d="{path}"/>'
            yield _draw_member(copy, x + _STEP, at, "copy", largest)
            row += 1


def _draw_axis(end: float, bottom: float) -> Iterator[str]:
    for share in (0.0, 0.5, 1.0):
        x = _LEFT + (_RIGHT - _LEFT) * share
        yield f'<line class="grid" x1="{x}" y1="{_HEAD}" x2="{x}" y2="{bottom}"/>'
        yield (
            f'<text class="tick" x="{x}" y="{bottom + 14}" text-anchor="middle">'
            f"{100 * share * end:g} %</text>"
        )
    yield (
        f'<text class="tick" x="{_RIGHT + 24}" y="{bottom + 14}">of the sketch differs from the '
        "bases'</text>"
    )


def _draw_member(member: FamilyMember, x: float, y: float, kind: str, largest: int) -> str:
    share = math.sqrt(member.stored / largest)
    radius = _LEAST_RADIUS + (_MOST_RADIUS - _LEAST_RADIUS) * share
    stored = f"{format_bytes(member.stored)} stored"
    label = member.repo if len(member.repo) <= _NAME else f"{member.repo[: _NAME - 1]}…"
    away = "computed" if member.source is not None else f"{member.distance:.2%} away"
    about = f"{member.repo}: {stored}, {away}"
    return (
        f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}">'
        f"<title>{escape(about)}</title></circle>"
        f'<text x="{x + radius + 6:.1f}" y="{y + 4:.1f}">{escape(label)}'
        f'<tspan class="note" dx="8">{stored}</tspan></text>'
    )
