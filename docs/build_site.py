"""Builds the documentation as a site: pages of docs/ and of the root, and generated references.

    python docs/build_site.py [FOLDER]     # by default site/, which git does not keep

Needs mkdocs-material (the extra `docs`). Warnings, dead links among them, are failures. The CLI
reference comes from the command itself, the HTTP reference from the server's OpenAPI document, the
list of errors from their classes.
"""

from __future__ import annotations

import inspect
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml

DOCS = Path(__file__).parent
ROOT = DOCS.parent
ROOT_PAGES = ("ARCHITECTURE", "CHANGELOG", "CONTRIBUTING", "FORMAT", "SECURITY")
REPOSITORY_FILES = ("benchmarks/results/codecs.png", "benchmarks/results/deltas.png")

NAV = (
    ("Home", "index.md"),
    ("Tutorial", "tutorial.md"),
    (
        "How-to",
        (
            ("A hub of your own", "hub.md"),
            ("Mirrors", "mirror.md"),
            ("Import and export", "import.md"),
            ("Folders", "folders.md"),
            ("Python", "library.md"),
            ("Retention", "retention.md"),
            ("Costs and bills", "costs.md"),
        ),
    ),
    (
        "Operators",
        (
            ("Deployment files", "deploy/README.md"),
            ("Runbooks", "runbooks.md"),
            ("Operations", "operations.md"),
            ("Security", "SECURITY.md"),
        ),
    ),
    (
        "Reference",
        (
            ("Commands", "commands.md"),
            ("Every option", "cli.md"),
            ("HTTP API", "http-api.md"),
            ("HTTP endpoints", "endpoints.md"),
            ("Python library", "reference.md"),
            ("Errors and statuses", "errors.md"),
            ("Glossary", "glossary.md"),
            ("Format", "FORMAT.md"),
        ),
    ),
    (
        "Project",
        (
            ("FAQ", "faq.md"),
            ("Comparison", "comparison.md"),
            ("Architecture", "ARCHITECTURE.md"),
            ("Contributing", "CONTRIBUTING.md"),
            ("Changelog", "CHANGELOG.md"),
        ),
    ),
)


def write_pages(folder: Path) -> None:
    """Writes the sources of the site."""
    shutil.copytree(
        DOCS,
        folder,
        ignore=shutil.ignore_patterns("*.py", "__pycache__", "site"),
        dirs_exist_ok=True,
    )
    for name in ROOT_PAGES:
        (folder / f"{name}.md").write_text(_move_links((ROOT / f"{name}.md").read_text()))
    (folder / "index.md").write_text(_move_links((ROOT / "README.md").read_text()))
    for name in REPOSITORY_FILES:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    for page in folder.glob("*.md"):
        page.write_text(_lift_links(page.read_text()))
    (folder / "cli.md").write_text(describe_commands())
    (folder / "endpoints.md").write_text(describe_endpoints())
    (folder / "errors.md").write_text(describe_errors())


def build(target: Path) -> None:
    """Builds the site. Raises what mkdocs says against a page."""
    from mkdocs.commands.build import build as build_pages
    from mkdocs.config import load_config

    with tempfile.TemporaryDirectory() as work:
        pages = Path(work) / "pages"
        write_pages(pages)
        outline = yaml.safe_load((DOCS / "site" / "mkdocs.yml").read_text())
        outline |= {"docs_dir": str(pages), "site_dir": str(target.resolve()), "nav": _nav(NAV)}
        config = Path(work) / "mkdocs.yml"
        config.write_text(yaml.safe_dump(outline))
        build_pages(load_config(str(config), strict=True))


def _nav(parts: Any) -> list[dict[str, Any]]:
    return [{name: _nav(p) if isinstance(p, tuple) else p} for name, p in parts]


def _move_links(text: str) -> str:
    """Links of a page of the root, as from docs/."""
    return re.sub(r"\]\(docs/", "](", text)


def _lift_links(text: str) -> str:
    """Links of docs/ to pages of the root, which the site has beside them; to other files of the
    repository, their names alone."""
    text = text.replace("](../README.md", "](index.md")
    text = re.sub(rf"\]\(\.\./((?:{'|'.join(ROOT_PAGES)})\.md)", r"](\1", text)
    return re.sub(r"\[([^\]]*)\]\(\.\./[^)]*\)", r"\1", text)


# Commands


def describe_commands() -> str:
    """Returns the page of every command with its options."""
    from weightvault.api.cli.main import cli

    return "# Commands\n\n" + "\n".join(_command_lines(cli, ["weightvault"], 2))


def _command_lines(command: click.Command, path: list[str], depth: int) -> Iterator[str]:
    context = click.Context(command, info_name=path[-1])
    yield f"{'#' * min(depth, 4)} {' '.join(path[1:]) or 'weightvault'}\n"
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"    {' '.join(path)} {usage}\n"
    yield _plain(command.help or "") + "\n"
    rows = [row for p in command.params if (row := p.get_help_record(context))]
    if rows:
        yield "| option | |\n|---|---|"
        yield from (f"| `{_cell(name)}` | {_cell(text)} |" for name, text in rows)
        yield ""
    if path == ["weightvault"]:
        yield _plain(command.epilog or "") + "\n"
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            yield from _command_lines(command.commands[name], [*path, name], depth + 1)


def _plain(text: str) -> str:
    """Help as Markdown: what is laid out by hand stays so."""
    parts = []
    for part in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        if part.lstrip().startswith("\b"):
            lines = part.replace("\b", "").strip("\n").splitlines()
            parts.append("\n".join(f"    {line}" for line in lines))
        else:
            parts.append(part.replace("<", "&lt;").replace("[", "\\["))
    return "\n\n".join(parts)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# The server


def describe_endpoints() -> str:
    """Returns the page of every documented endpoint."""
    document = openapi()
    lines = ["# HTTP endpoints\n", "[HTTP API](http-api.md) says what holds for all of them.\n"]
    for path, methods in sorted(document["paths"].items()):
        for method, endpoint in methods.items():
            lines += _endpoint_lines(method.upper(), path, endpoint)
    return "\n".join(lines)


def openapi() -> dict[str, Any]:
    """Returns the OpenAPI document of a server."""
    from weightvault.api.server.app import create_app
    from weightvault.dedup.local_vault import LocalVault
    from weightvault.store.backends.memory import MemoryBackend
    from weightvault.store.catalogue.catalogue import open_catalogue

    with tempfile.TemporaryDirectory() as folder:
        catalogue = open_catalogue("sqlite://")
        vault = LocalVault(MemoryBackend(), catalogue, scratch=Path(folder))
        document = create_app(vault).openapi()
        vault.close()
    return document


def _endpoint_lines(method: str, path: str, endpoint: dict[str, Any]) -> Iterator[str]:
    yield f"## {method} `{path}`\n"
    yield f"{endpoint.get('summary', '')}. {_plain(endpoint.get('description', ''))}\n"
    rows = endpoint.get("parameters", [])
    if rows:
        yield "| parameter | in | |\n|---|---|---|"
        for row in rows:
            text = row.get("description") or row["schema"].get("description", "")
            yield f"| `{row['name']}` | {row['in']} | {_cell(text)} |"
        yield ""


def describe_errors() -> str:
    """Returns the page of error codes, their statuses over HTTP, and exit statuses."""
    from weightvault.api.cli import exits
    from weightvault.api.errors import HTTP_CODES, http_status
    from weightvault.dedup.errors import error_classes

    lines = ["# Errors and statuses\n", "## Error codes\n"]
    lines.append("| code | HTTP | exit status | means |\n|---|---|---|---|")
    for code, kind in sorted((kind.code, kind) for kind in error_classes().values()):
        meaning = _cell((kind.__doc__ or "").split("\n\n")[0])
        lines.append(f"| `{code}` | {http_status(kind)} | {exits.status_of(kind)} | {meaning} |")
    lines += ["\n## Other codes of answers\n", "| code | HTTP |\n|---|---|"]
    lines += [f"| `{code}` | {status} |" for code, status in HTTP_CODES.items()]
    lines += ["\n## Exit statuses\n", "| status | means |\n|---|---|"]
    lines += [f"| {status} | {meaning} |" for status, meaning in exits.MEANINGS.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "site")
