"""Model cards: what people write is shown, what attackers write does nothing."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sites import tags_of

from weightvault.api.web.card import MAX_CARD_BYTES, render_card

TAGS = {
    "a", "abbr", "b", "blockquote", "br", "code", "dd", "del", "details", "div", "dl", "dt", "em",
    "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "kbd", "li", "ol", "p", "pre", "s", "span",
    "strong", "sub", "summary", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
DEAD = {"script", "style", "iframe", "object", "embed", "form", "input", "button", "link", "meta"}
DEAD |= {"base", "svg", "math", "template", "video", "audio", "source", "body", "html", "head"}


def render(text: str, revision: str = "main") -> str:
    return render_card(text.encode(), "org/m", revision).html


def check_harmless(html: str) -> None:
    for tag, attributes in tags_of(html):
        assert tag not in DEAD, html
        for name, value in attributes.items():
            assert not name.startswith("on"), html
            assert name not in ("style", "id", "class", "srcset", "srcdoc", "action") or (
                (tag, name, value) == ("div", "class", "scroll")
            ), html
            if name == "src":
                assert value is not None
                assert value.startswith("/org/m/image/main/"), html
            if name == "href":
                scheme = urlsplit(value or "").scheme
                assert scheme in ("", "http", "https", "mailto"), html
                assert not (value or "").startswith("//"), html


PIECES = st.sampled_from(
    [
        *(
            "<script>",
            "</script>",
            "<img src=",
            "<a href=",
            "javascript:alert(1)",
            "onerror=x",
            ">",
        ),
        *(
            "<svg/onload=x>",
            "<!--",
            "-->",
            "<![CDATA[",
            "]]>",
            "<?",
            "&#106;avascript:",
            "\0",
            "//",
        ),
        *("data:text/html,x", "[x](", ")", "![x](", "`", "```\n", "\n\n", "|a|b|\n|-|-|\n", '"'),
        *('<a title="', '<img alt="', "<table>", "<pre>", "<img src=x onerror=y>", '">', "<h2>"),
        *("<style>", "</style>", "<math><mtext>", "<table><td>", "<noscript>", "<p title='"),
        *(
            "</article>",
            "<iframe srcdoc='<b>'>",
            "<h1>",
            "# ",
            "> ",
            "- ",
            "http://x.test",
            "\u202e",
        ),
    ]
)


@given(st.lists(PIECES | st.text(max_size=8), max_size=30).map("".join))
def test_no_text_makes_anything_that_acts(text: str):
    check_harmless(render(text))


def test_tags_in_values_of_attributes_stay_there():
    html = render('<a title="<table><pre><h1><img src=x onerror=y>" href="#a">x</a>')
    check_harmless(html)
    assert [tag for tag, _ in tags_of(html)] == ["p", "a"]
    html = render("![<table> <script>alert(1)</script>](https://x.test/y.png)")
    check_harmless(html)
    assert [tag for tag, _ in tags_of(html)] == ["p", "em"]


def test_what_people_write_is_there():
    html = render(
        "# Title\n\n*a* **b** ~~c~~ `d`\n\n1. x\n   - y\n\n> q\n\n---\n\n"
        "<details><summary>More</summary>inside</details>\n\n|h|\n|-:|\n|1|\n\nhttps://x.test/y"
    )
    found = {tag for tag, _ in tags_of(html)}
    assert found <= TAGS
    assert found >= {"h2", "em", "strong", "s", "code", "ol", "ul", "blockquote", "hr", "details"}
    assert ("td", {"align": "right"}) in tags_of(html)
    links = [attributes for tag, attributes in tags_of(html) if tag == "a"]
    assert links == [{"href": "https://x.test/y", "rel": "nofollow noopener noreferrer"}]


@pytest.mark.parametrize(
    ("target", "href"),
    [
        ("config.json", "/org/m/blob/dev%2Fx/config.json"),
        ("./a/../b c.txt", "/org/m/blob/dev%2Fx/b%20c.txt"),
        ("#use", "#use"),
        ("https://x.test/a?b=1", "https://x.test/a?b=1"),
        ("mailto:a@x.test", "mailto:a@x.test"),
        ("../../other/secret", None),
        ("/-/sign-out", None),
        ("//x.test/a", None),
        ("ftp://x.test/a", None),
        ("vbscript:x", None),
        ("http://[", None),
    ],
)
def test_links_lead_to_files_of_the_repo_or_out(target: str, href: str | None):
    html = render(f'<a href="{target}">x</a>', "dev/x")
    assert [attributes.get("href") for tag, attributes in tags_of(html) if tag == "a"] == [href]


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("a/plot.png", "/org/m/image/main/a/plot.png"),
        ("./plot.JPG", "/org/m/image/main/plot.JPG"),
        ("plot.svg", None),
        ("../plot.png", None),
        ("/plot.png", None),
        ("https://x.test/plot.png", None),
        ("data:image/png;base64,AAAA", None),
    ],
)
def test_only_raster_images_of_the_repo_are_loaded(source: str, shown: str | None):
    (_, (tag, attributes)) = tags_of(render(f"![alt]({source})"))
    assert (tag, attributes.get("src")) == ("em" if shown is None else "img", shown)


def test_front_matter_is_read_as_plain_texts():
    card = render_card(
        b"---\nlicense: mit\ntags: [a, 1, yes, {b: c}, [d]]\nother: x\n---\nbody", "o/m", "main"
    )
    assert card.facts == (("license", ("mit",)), ("tags", ("a", "1")))
    assert card.html == "<p>body</p>\n"


@pytest.mark.parametrize(
    "matter",
    [
        "a: [" + "[" * 2000,
        "x: &a [1]\n" + "".join(f"y{i}: [*a, *a]\n" for i in range(50)),
        "!!python/object/apply:os.system ['true']",
        "tags: " + "x" * 100_000,
        "- just a list",
        ": : :",
        "license: !!binary AAAA",
    ],
)
def test_odd_front_matter_says_nothing_and_breaks_nothing(matter: str):
    card = render_card(f"---\n{matter}\n---\nbody\n".encode(), "o/m", "main")
    assert card.facts == ()
    assert "<p>body</p>" in card.html


def test_long_cards_are_cut_and_say_so():
    card = render_card(b"word " * MAX_CARD_BYTES, "o/m", "main")
    assert card.cut
    assert len(card.html) < 2 * MAX_CARD_BYTES
    assert not render_card(b"short", "o/m", "main").cut


def test_bytes_that_are_no_text_are_shown_as_far_as_they_go():
    assert "ab" in render_card(b"\xff\xfe ab \x00 \xc3", "o/m", "main").html
