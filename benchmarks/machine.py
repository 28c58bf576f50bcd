"""What a measurement was made on: machine and versions, for the CSV files in results."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("weightvault", "numpy", "numba", "zstandard", "blake3")


def describe_machine() -> dict[str, str]:
    """Returns the processor, cores, system, Python and the packages that matter, by column."""
    return {
        "machine": f"{processor_name()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": " ".join(f"{name}={version(name)}" for name in _PACKAGES),
    }


def processor_name() -> str:
    """Returns the processor's name as the kernel gives it, or the architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
