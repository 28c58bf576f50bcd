"""The standard streams of a process that was started without some of them."""

from __future__ import annotations

import os
import sys


def open_standard_streams() -> None:
    """Opens those of stdin, stdout and stderr that are closed, on nothing.

    Otherwise the next file that is opened, of the vault perhaps, takes the place of one, and what
    any library prints there would be written into it; and Python has None in place of the stream.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free: this one.
            os.open(os.devnull, os.O_RDWR)
    nothing = {"stdin": "r", "stdout": "w", "stderr": "w"}
    for number, (name, mode) in enumerate(nothing.items()):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115
