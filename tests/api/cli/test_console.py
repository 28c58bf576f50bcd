"""Numbers and tables for people, and progress without a terminal."""

import io
from contextlib import suppress

import pytest

from weightvault.api.formatting import (
    format_bytes,
    format_count,
    format_money,
    format_percent,
    format_rate,
    format_table,
)
from weightvault.api.progress import BarProgress, LineProgress, make_progress
from weightvault.dedup.progress import Progress


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (2**20 - 1, "1.0 MiB"),
        (5 * 2**30, "5.0 GiB"),
        (3 * 2**60, "3072.0 PiB"),
        (-2048, "-2.0 KiB"),
    ],
)
def test_bytes(count: int, text: str) -> None:
    assert format_bytes(count) == text


def test_other_numbers() -> None:
    assert format_rate(2**21, 2.0) == "1.0 MiB/s"
    assert format_rate(0, 0.0) == "0 B/s"
    assert format_percent(1, 8) == "12.5 %"
    assert format_percent(1, 0) == "-"
    assert format_count(1, "file") == "1 file"
    assert format_count(0, "file") == "0 files"
    assert [format_money(m) for m in (0, 0.00001, 0.0312, 1234.5)] == [
        "0.0000",
        "under 0.0001",
        "0.0312",
        "1,234.50",
    ]


def test_table() -> None:
    assert format_table([("a", "bb"), ("ccc", "d")]) == "a    bb\nccc   d"


def test_lines_come_now_and_then() -> None:
    out = io.StringIO()
    progress = LineProgress(out, line_seconds=0.0)
    progress.begin("storing", 4096)
    progress.advance(1024)
    progress.advance(3072)
    progress.end()
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("storing: 1.0 KiB of 4.0 KiB (25.0 %), ")
    assert lines[2].startswith("storing: 4.0 KiB of 4.0 KiB (100.0 %), ")


def test_lines_of_things_that_are_no_bytes() -> None:
    out = io.StringIO()
    progress = LineProgress(out)
    progress.begin("checking packs", 3, "packs")
    progress.advance(3)
    progress.end()
    assert out.getvalue() == "checking packs: 3 of 3 packs (100.0 %)\n"


def test_bars_of_bytes_and_of_other_things() -> None:
    out = io.StringIO()
    for unit in (None, "packs"):
        progress = BarProgress(out)
        progress.begin("looking", 2048, unit)
        progress.advance(2048)
        progress.end()
    bytes_line, packs_line = out.getvalue().splitlines()
    assert "2.0/2.0 KiB" in bytes_line
    assert "2048/2048 packs" in packs_line


@pytest.mark.parametrize("kind", [LineProgress, BarProgress])
def test_nothing_to_do_is_not_worth_a_line(kind: type[Progress]) -> None:
    out = io.StringIO()
    progress = kind(out)  # type: ignore[call-arg]
    with progress.running("storing", 0):
        progress.advance(0)
    assert out.getvalue() == ""


def test_work_of_unknown_length_leaves_a_line_if_it_was_long() -> None:
    out = io.StringIO()
    with LineProgress(out).running("committing"):
        pass
    assert out.getvalue() == ""
    with LineProgress(out, line_seconds=0.0).running("committing"):
        pass
    assert out.getvalue() == "committing: 0 s\n"


def test_a_bar_of_unknown_length_is_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    with BarProgress(out).running("committing"):
        pass
    assert "committing" in out.getvalue()
    # What is drawn last is the emptied line.
    assert out.getvalue().endswith("\x1b[2K")


def test_a_task_ends_also_where_it_fails() -> None:
    out = io.StringIO()
    with suppress(ValueError), (progress := LineProgress(out)).running("storing", 4):
        progress.advance(1)
        raise ValueError
    assert out.getvalue().startswith("storing: 1 B of 4 B")


def test_which_progress() -> None:
    assert isinstance(make_progress(io.StringIO()), LineProgress)
    assert isinstance(make_progress(Terminal()), BarProgress)
