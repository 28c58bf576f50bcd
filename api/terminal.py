"""Text from elsewhere as a terminal may show it: visible, in its place, and without commands.

Names, messages and hints come from servers, from files and from whoever uploaded them. Terminals
obey escape sequences, and bidirectional controls and invisible characters make a name look like
another. Everything the command line prints goes through here.
"""

from __future__ import annotations

import re

# C0 and C1 controls and DEL, what breaks lines, what has no glyph or turns text around (categories
# Cf, Zl, Zp and the default ignorables of other categories), and halves of surrogate pairs.
_UNSAFE = (
    "\x00-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160"
    "\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufeff"
    "\uffa0\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_ONE_LINE = re.compile(f"[{_UNSAFE}]")
_LINES = re.compile(rf"(?![\n\t])[{_UNSAFE}]")


def show(text: str) -> str:
    """Returns a text from elsewhere for the middle of a line: what is unsafe as `\\x1b`."""
    return _ONE_LINE.sub(_escape, text)


def show_lines(text: str) -> str:
    """As show, of text that may have lines and tabs of its own."""
    return _LINES.sub(_escape, text)


def show_json(text: str) -> str:
    """Returns a JSON document with the same meaning and with JSON's own escapes for what is unsafe
    (which json.dumps leaves as it is, unless it is told to leave nothing but ASCII)."""
    return _LINES.sub(_escape_json, text)


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode("ascii")


def _escape_json(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
