"""The documentation as a site: it builds without a warning, and has all that there is."""

from __future__ import annotations

import html
import os
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from weightvault.api import cache_config, config, server_config
from weightvault.api.cli import exits
from weightvault.api.cli.main import cli
from weightvault.api.errors import HTTP_CODES, http_status
from weightvault.dedup.errors import error_classes

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with warnings as failures: links and anchors that lead nowhere are some."""
    try:
        import mkdocs  # noqa: F401
    except ModuleNotFoundError:
        end = pytest.fail if os.environ.get("CI") else pytest.skip
        end("mkdocs-material is missing: pip install 'weightvault[docs]'")
    folder = tmp_path_factory.mktemp("site") / "built"
    runpy.run_path(str(DOCS / "build_site.py"))["build"](folder)
    return folder


def text_of(site: Path, page: str) -> str:
    """What a page says, without its markup."""
    return html.unescape(re.sub(r"<[^>]+>", "", (site / page).read_text()))


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield " ".join((*path, name)), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def test_every_command_and_option_is_in_it(site: Path):
    page, table = text_of(site, "cli.html"), (DOCS / "commands.md").read_text()
    for path, command in commands(cli):
        assert f"weightvault {path} " in page, path
        assert path.split()[0] in table, path
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert parameter.opts[-1] in page, (path, parameter.opts)


def test_every_endpoint_is_in_it(site: Path):
    page = text_of(site, "endpoints.html")
    paths = runpy.run_path(str(DOCS / "build_site.py"))["openapi"]()["paths"]
    assert len(paths) > 25
    for path, methods in paths.items():
        for method in methods:
            assert f"{method.upper()} {path}" in page, (method, path)


def test_every_error_code_and_status_is_in_it(site: Path):
    page = text_of(site, "errors.html")
    for kind in error_classes().values():
        row = rf"\b{kind.code}\s+{http_status(kind)}\s+{exits.status_of(kind)}\s"
        assert re.search(row, page), kind
    for status, meaning in exits.MEANINGS.items():
        assert re.search(rf"\b{status}\s+{re.escape(meaning)}", page), status
    # What is no exception of ours, but a code of an answer all the same.
    for code in HTTP_CODES:
        assert re.search(rf"\b{code}\b", page), code


def test_every_setting_is_in_it(site: Path):
    page = text_of(site, "cli.html")
    documented = f"{config.__doc__}{cache_config.__doc__}{server_config.__doc__}"
    listed = set(re.findall(r"^ *(WEIGHTVAULT_\w+)", documented, re.M))
    # What is read at all, wherever: names in quotes.
    read = set[str]()
    for path in (DOCS.parent / "api").rglob("*.py"):
        read |= set(re.findall(r"\"(WEIGHTVAULT_\w+)\"", path.read_text()))
    assert len(read) > 15
    assert read == listed
    for name in listed:
        assert re.search(rf"\b{name}\b", page), name


def test_the_readme_is_short():
    assert len((DOCS.parent / "README.md").read_text().splitlines()) <= 150
