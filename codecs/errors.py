"""What a frame can do wrong, as a tree of errors that callers branch on.

    FrameError (a ValueError)   this frame cannot be decoded here and now
    ├── CorruptFrame            not what a writer wrote: fetch or restore it again
    ├── UnsupportedFrame        written by a newer writer: update this reader
    └── WrongBase               the base is missing, of the wrong length, or another: find it

All of them are permanent for the same arguments: trying again cannot help. Misuse by the caller
(an unknown dtype, level or codec name, buffers of unequal length, a range outside the tensor) is
a plain ``ValueError`` and never a ``FrameError``.
"""


class FrameError(ValueError):
    """A frame cannot be decoded with what was given."""


class CorruptFrame(FrameError):
    """The frame is not what a writer wrote: truncated, altered, lying about a length, or of the
    wrong digest.
    """


class UnsupportedFrame(FrameError):
    """The frame has a format version, codec id, dtype id or layout that this reader does not
    know.
    """


class WrongBase(FrameError):
    """The base is missing, of the wrong length, or not the tensor the frame was made against."""
