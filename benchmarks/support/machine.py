"""Keeps measurements as CSV files in results, with what they were made on: machine and versions."""

from __future__ import annotations

import csv
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from itertools import chain
from pathlib import Path

from ... import __version__

RESULTS = Path(__file__).parents[1] / "results"
"""Where measurements are kept."""

_PACKAGES = ("numpy", "numba", "zstandard", "blake3")


def save_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Writes rows as a CSV, each with the machine unless it names one; a cell is empty where a row
    has no such column."""
    machine = describe_machine()
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(chain(*rows, machine))))
        writer.writeheader()
        writer.writerows({**machine, **row} for row in rows)


def describe_machine() -> dict[str, str]:
    """Returns the processor, cores, system, Python and the packages that matter, by column."""
    return {
        "machine": f"{processor_name()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        # What an editable install was of when it was made says nothing of the code that runs.
        "versions": " ".join(
            [f"weightvault={__version__}", *(f"{name}={version(name)}" for name in _PACKAGES)]
        ),
    }


def processor_name() -> str:
    """Returns the processor's name as the kernel gives it, or the architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
