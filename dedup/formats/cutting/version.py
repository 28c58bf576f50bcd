"""The version of all that decides where files are cut."""

CUT_VERSION = 8
"""Raised when some files are cut otherwise than before, so that unchanged ones are read again."""
