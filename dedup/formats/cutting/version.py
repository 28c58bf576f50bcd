"""The version of all that decides where files are cut."""

CUT_VERSION = 9
"""Raised when some files are cut otherwise than before, so that unchanged ones are read again."""
