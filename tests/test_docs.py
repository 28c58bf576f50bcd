"""The pages name what there is."""

import re
import runpy
from pathlib import Path

from vaults import open_local

from weightvault.api.server.app import create_app, endpoints
from weightvault.codecs.dtypes import BY_NAME, QUANTISED
from weightvault.codecs.frame import CODEC_IDS
from weightvault.dedup.errors import error_classes

ROOT = Path(__file__).parents[1]


def page(name: str) -> str:
    return (ROOT / name).read_text()


def test_every_endpoint_is_documented(tmp_path: Path):
    text = page("docs/http-api.md")
    vault = open_local(tmp_path)
    found = endpoints(create_app(vault))
    vault.close()
    assert len(found) > 10
    for _, path in found:
        shown = re.sub(r":path}", "}", path)
        assert shown in text, shown


def test_every_codec_is_in_the_format_page():
    text = page("FORMAT.md")
    for name, number in CODEC_IDS.items():
        assert re.search(rf"\| *{number} *\| *`{name}`", text), f"codec {number} {name}"


def test_every_dtype_is_in_the_format_page():
    text = page("FORMAT.md")
    for name in (*BY_NAME, *QUANTISED):
        assert re.search(rf"\| *{name} *\|", text), name


def test_the_reference_is_made_of_the_docstrings():
    made = runpy.run_path(str(ROOT / "docs" / "make_reference.py"))["make_reference"]()
    assert page("docs/reference.md") == made, "run docs/make_reference.py"


def test_error_codes_are_distinct():
    classes = error_classes()
    assert len({kind.code for kind in classes.values()}) == len(classes)


def test_links_between_pages_lead_somewhere():
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")):
        for target in re.findall(r"\]\(([A-Za-z./_-]+)\)", path.read_text()):
            assert (path.parent / target).exists(), (path, target)


def test_paths_in_the_architecture_page_exist():
    text = page("ARCHITECTURE.md")
    for path in re.findall(r"`((?:store|codecs|dedup|api|tests|benchmarks)/[\w.]*\w)`", text):
        assert (ROOT / path).exists(), path


def test_paths_in_prose_are_there():
    """What a page or a docstring sends its reader to."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    modules = [
        p for room in ("store", "codecs", "dedup", "api") for p in (ROOT / room).rglob("*.py")
    ]
    for path in [p for p in pages if p.name != "CHANGELOG.md"] + modules:
        for named in re.findall(
            r"(?<![\w/.])((?:store|codecs|dedup|api)/[\w/]+\.\w+)", path.read_text()
        ):
            assert (ROOT / named).exists(), (path, named)
