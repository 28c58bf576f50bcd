"""The report as files to send around: one HTML page with all in it, and the main chart as PNG."""

from __future__ import annotations

import math
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from ...dedup.errors import InvalidInput
from ..formatting import format_bytes
from .figures import Figure, draw_all, draw_waterfall
from .rendering import templates

if TYPE_CHECKING:
    from ...dedup.model.report import Report
    from ..report_text import Priced

_STATIC = Path(__file__).parent / "static"
# As in style.css, in light.
_COLOURS = {"total": "#17627d", "saved": "#4c9f70", "added": "#d08a2e"}
_TEXT, _GRID = "#57606a", "#e5e8eb"
_WIDTH_INCHES, _DPI = 9.6, 200


def render_report(priced: Priced) -> str:
    """Returns the report as one HTML file that needs nothing else, and asks nobody for anything."""
    template = templates().get_template("report.html")
    figures = draw_all(priced.report)
    return template.render(report=priced.report, priced=priced, figures=figures, inline=_inline)


def render_waterfall(report: Report) -> bytes:
    """Returns the main chart as a PNG. Raises InvalidInput where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure as Canvas
    except ModuleNotFoundError as error:
        raise InvalidInput(
            "PNG needs matplotlib", "pip install 'weightvault[charts]', or use --format html"
        ) from error
    drawn = draw_waterfall(report)
    picture = Canvas((_WIDTH_INCHES, 1.2 + 0.34 * len(drawn.labels)), layout="constrained")
    _draw_bars(picture.add_subplot(), drawn)
    out = BytesIO()
    picture.savefig(out, format="png", dpi=_DPI, metadata={"Description": drawn.summary})
    return out.getvalue()


def _draw_bars(axes: Any, drawn: Figure) -> None:
    """Draws the steps from top to bottom, each with its bytes beside it."""
    from matplotlib.ticker import MultipleLocator

    for i, (step, colour) in enumerate(zip(drawn.series[0].values, drawn.colours, strict=True)):
        assert isinstance(step, tuple)
        left, width = min(step), abs(step[1] - step[0])
        axes.barh(i, width, left=left, color=_COLOURS[colour], height=0.62)
        axes.annotate(
            drawn.table[i][1],
            (left + width, i),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=_TEXT,
            fontsize=9,
        )
    axes.set_yticks(range(len(drawn.labels)), drawn.labels)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MultipleLocator(_tick_bytes(axes.get_xlim()[1])))
    axes.xaxis.set_major_formatter(lambda value, _: format_bytes(value))
    axes.set_title(drawn.summary, loc="left", fontsize=10, color=_TEXT)
    axes.tick_params(length=0, labelcolor=_TEXT, labelsize=9)
    axes.grid(axis="x", color=_GRID)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)


def _tick_bytes(most: float) -> float:
    """Returns how far apart ticks up to `most` are: round numbers of a binary unit."""
    unit = 1024 ** max(0, int(math.log(max(most, 1), 1024)))
    steps = (step * 10**power for power in range(-1, 4) for step in (1, 2, 5))
    return unit * next(step for step in steps if step >= most / unit / 6)


@cache
def _inline(name: str) -> Markup:
    """A file of `static` as part of a page. They are ours, and none ends a script early."""
    return Markup((_STATIC / name).read_text())
