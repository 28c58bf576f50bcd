"""Model cards: somebody's Markdown becomes HTML that does nothing but stand there.

The text comes from whoever pushed it. markdown-it renders it, nh3 (ammonia) keeps only the tags and
attributes named here, and the pages' Content-Security-Policy stands behind both: nothing of a card
runs, and nothing is fetched but raster images of the repo itself.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from html import escape, unescape
from itertools import islice
from typing import Any
from urllib.parse import unquote, urlsplit

import nh3
from linkify_it import LinkifyIt
from markdown_it import MarkdownIt
from markdown_it.token import Token

from ...dedup.model.cards import read_front_matter, split_card
from .addresses import repo_url

MAX_CARD_BYTES = 512 * 1024
"""What is read of a card: its front matter and what is shown of its text."""
MAX_RENDERED_CHARACTERS = 48 * 1024
"""What is rendered of a card as Markdown; the longest that people write are half of it. The
renderer takes a second for this much of the worst text. The rest is shown as it is written."""
IMAGE_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
}
"""Images of a repo that its card may show. SVG is not among them: it can hold scripts."""

_MAX_VALUES = 24
_MAX_VALUE_CHARACTERS = 80
# What is longer is no name of anything.
_MAX_FACT_CHARACTERS = 1000
_FACTS = (
    "license",
    "pipeline_tag",
    "library_name",
    "language",
    "base_model",
    "datasets",
    "tags",
)

# Landmarks are the page's own, and maps of images have areas that are links.
_TAGS = nh3.ALLOWED_TAGS - {"area", "article", "aside", "footer", "header", "map", "nav"}
_ATTRIBUTES = {
    "a": {"href", "title"},
    "img": {"src", "alt", "title", "width", "height"},
    "td": {"align", "colspan", "rowspan"},
    "th": {"align", "colspan", "rowspan"},
    "ol": {"start"},
    "details": {"open"},
}
# With what is in them: their text is not meant to be read.
_DROPPED = {"iframe", "math", "noscript", "object", "script", "style", "svg", "template", "title"}
_SCHEMES = {"http", "https", "mailto"}
_FRAME = '<div class="scroll" role="group" aria-label="Table" tabindex="0">'

# Of addresses, in all links and images of a card: a definition of one may be used many times.
_MAX_ADDRESS_CHARACTERS = 1 << 20
_MAX_SHOWN_CHARACTERS = 256 * 1024


class _ShortLinks(LinkifyIt):
    """Finds addresses in text, in time that is linear in the text.

    linkify-it looks through all that follows each place where one might begin: lines that are
    longer than this are left alone.
    """

    _MOST = 2048

    def pretest(self, text: str) -> bool:
        """Says that there might be an address: `test` sees to each line of a paragraph."""
        return True

    def test(self, text: str) -> bool:
        """Says whether there is an address; not in text that is too long."""
        return len(text) <= self._MOST and super().test(text)


def _make_renderer() -> MarkdownIt:
    markdown = MarkdownIt("gfm-like")
    markdown.linkify = _ShortLinks()
    # It searches all text before each "://"; the rule of the same name for whole texts does not.
    markdown.inline.ruler.disable("linkify")
    return markdown


_markdown = _make_renderer()


@dataclass(frozen=True, slots=True)
class Card:
    """A card: its front matter's facts as name and values, its HTML, and whether that is all."""

    facts: tuple[tuple[str, tuple[str, ...]], ...]
    html: str
    cut: bool


def render_card(text: bytes, repo: str, revision: str) -> Card:
    """Returns the card whose file begins with the bytes `text`, for the pages of a revision."""
    return _render(text[:MAX_CARD_BYTES], len(text) > MAX_CARD_BYTES, repo, revision)


@lru_cache(32)
def _render(text: bytes, cut: bool, repo: str, revision: str) -> Card:
    _, body = split_card(text.decode(errors="replace"))
    rendered, rest = _cut_lines(body, MAX_RENDERED_CHARACTERS)
    html = _render_markdown(rendered)
    shown, left = rest[:_MAX_SHOWN_CHARACTERS], rest[_MAX_SHOWN_CHARACTERS:]
    if html is None:
        html, shown = "", body[:_MAX_SHOWN_CHARACTERS]
    clean = _sanitise(html, repo, revision) + _show_plain(shown)
    return Card(_read_facts(text), clean, cut or bool(left))


def _cut_lines(text: str, most: int) -> tuple[str, str]:
    """Returns whole lines of up to `most` characters, and the rest."""
    if len(text) <= most:
        return text, ""
    end = text.rfind("\n", 0, most) + 1 or most
    return text[:end], text[end:]


def _render_markdown(text: str) -> str | None:
    """Returns the HTML of Markdown, None where its links would make it many times as long."""
    env: dict[str, Any] = {}
    tokens = _markdown.parse(text, env)
    if _address_characters(tokens) > _MAX_ADDRESS_CHARACTERS:
        return None
    return _markdown.renderer.render(tokens, _markdown.options, env)


def _address_characters(tokens: Iterable[Token]) -> int:
    return sum(
        sum(len(str(value)) for value in token.attrs.values())
        + _address_characters(token.children or ())
        for token in tokens
    )


def _show_plain(text: str) -> str:
    return f'<pre tabindex="0">{escape(text, quote=False)}</pre>' if text.strip() else ""


def _read_facts(text: bytes) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """What people look for in the front matter, as plain texts; whatever else it is, nothing."""
    found = read_front_matter(text)
    facts = ((name, _texts(found.get(name))) for name in _FACTS)
    return tuple((name, values) for name, values in facts if values)


def _texts(value: Any) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    # A flag is no text, though Python counts it among the numbers.
    plain = (v for v in listed if isinstance(v, str | int | float) and not isinstance(v, bool))
    texts = (text for value in islice(plain, _MAX_VALUES) if (text := str(value)))
    return tuple(t[:_MAX_VALUE_CHARACTERS] for t in texts if len(t) <= _MAX_FACT_CHARACTERS)


def _sanitise(html: str, repo: str, revision: str) -> str:
    # Styles do not get through; the renderer's own say how columns are aligned.
    aligned = re.sub(r' style="text-align:(left|center|right)"', r' align="\1"', html)
    clean = nh3.clean(
        aligned,
        tags=_TAGS,
        clean_content_tags=_DROPPED,
        attributes=_ATTRIBUTES,
        attribute_filter=_filter_addresses(repo, revision),
        url_schemes=_SCHEMES,
        link_rel="nofollow noopener noreferrer",
    )
    return _fit(clean)


def _filter_addresses(repo: str, revision: str) -> Callable[[str, str, str], str | None]:
    """Makes links to files of the repo lead to their pages, and lets only its images through."""

    def keep(tag: str, attribute: str, value: str) -> str | None:
        if (tag, attribute) == ("a", "href"):
            return _link(value.strip(), repo, revision)
        if (tag, attribute) == ("img", "src"):
            path = _path_in_repo(value.strip())
            known = path is not None and path.rpartition(".")[2].lower() in IMAGE_TYPES
            return repo_url(repo, "image", revision, path or "") if known else None
        return value

    return keep


def _link(href: str, repo: str, revision: str) -> str | None:
    if href.startswith("#"):
        return href
    try:
        target = urlsplit(href)
    except ValueError:
        return None
    if target.scheme or target.netloc:
        return href if target.scheme in _SCHEMES else None
    path = _path_in_repo(href)
    return None if path is None else repo_url(repo, "blob", revision, path)


def _path_in_repo(address: str) -> str | None:
    """Returns the path of a file that an address names relative to the card, None for others."""
    try:
        target = urlsplit(address)
    except ValueError:
        return None
    path = posixpath.normpath(unquote(target.path))
    outside = path.startswith(("/", "..")) or path == "." or "\\" in path
    return None if target.scheme or target.netloc or outside else path


def _fit(html: str) -> str:
    """Fits sanitised HTML into the page."""
    # Whole tags, so that what looks like one in the value of an attribute is passed over.
    return re.sub(r'<(/?)([a-z0-9]+)((?: [a-z]+="[^"]*")*)>', _fit_tag, html)


def _fit_tag(match: re.Match[str]) -> str:
    """Moves headings below the page's own; gives what may be wider than the page a frame that can
    be scrolled, by keyboard too; puts words where an image is not shown."""
    end, name, attributes = match.groups()
    if re.fullmatch(r"h[1-5]", name):
        return f"<{end}h{int(name[1]) + 1}{attributes}>"
    if name == "table":
        return "</table></div>" if end else f"{_FRAME}<table{attributes}>"
    if name == "pre" and not end:
        return f'<pre tabindex="0"{attributes}>'
    if name == "img":
        return _fit_image(dict(re.findall(r' ([a-z]+)="([^"]*)"', attributes)), attributes)
    return match[0]


def _fit_image(values: dict[str, str], attributes: str) -> str:
    if "src" not in values:
        return f"<em>{escape(unescape(values.get('alt', '')))}</em>"
    return f"<img{attributes}>" if "alt" in values else f'<img alt=""{attributes}>'
