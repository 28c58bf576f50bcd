"""Frames as a server sends them, to clients that decode them themselves.

`standalone_frames` gives them as they are stored, or raw; `offered_frames` encodes them on the way,
for clients that say what they have.

Imports `codecs`, and of dedup: `reading`, `repository`, `similarity`.
"""
