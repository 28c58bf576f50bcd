"""Options and arguments that several verbs share."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from .console import Session

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class ShareType(click.ParamType):
    """A share, as `5%` or `0.05`."""

    name = "share"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Returns it as a number above 0, at most 1."""
        text = str(value)
        try:
            share = float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            share = 0.0
        if not 0 < share <= 1:
            self.fail(f"{text!r} is no share such as 5% or 0.05", param, ctx)
        return share


class BytesType(click.ParamType):
    """A number of bytes, as `50000000`, `50M` or `1.5G`."""

    name = "bytes"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Returns it as a number above 0."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?", str(value))
        count = float(found[1]) * _UNITS[found[2]] if found else 0.0
        if count <= 0:
            self.fail(f"{value!r} is no number of bytes such as 500K, 50M or 1.5G", param, ctx)
        return count


class SecondsType(click.ParamType):
    """A length of time, as `90d`, `12h`, `30m` or `45s`; with `bare`, also as a number of
    seconds."""

    name = "time"

    def __init__(self, *, bare: bool = False) -> None:
        self._bare = bare

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Returns it in seconds, 0 or more."""
        found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smhdw]?)", str(value))
        if found is None or not (found[2] or self._bare):
            self.fail(f"{value!r} is no length of time such as 90d, 12h or 30m", param, ctx)
        return float(found[1]) * _SECONDS[found[2] or "s"]


def verb(name: str) -> Callable[[Callable[..., None]], click.Command]:
    """Makes a function a verb: it takes the session first, and the verb --json and --vault."""

    def decorate(function: Callable[..., None]) -> click.Command:
        return click.command(name)(vault_option(json_option(click.pass_obj(function))))

    return decorate


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """The option --json; it is heeded while the rest of the command line may still be wrong."""
    option = click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_ask_for_json,
        help="Print one JSON document on stdout.",
    )
    return option(function)


def vault_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """The option --vault behind the verb, which counts for more than one before it."""
    option = click.option(
        "--vault",
        metavar="URL",
        expose_value=False,
        callback=_choose_vault,
        help="Folder, s3://bucket/prefix or http://host:port.",
    )
    return option(function)


def upstream_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which hub is mirrored, and what of it."""
    options = (
        click.option(
            "--upstream",
            metavar="URL",
            envvar="WEIGHTVAULT_UPSTREAM",
            help="A hub to mirror, such as https://huggingface.co.",
        ),
        click.option(
            "--upstream-token-file",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="A file with a token of that hub.",
        ),
        click.option(
            "--upstream-allow",
            multiple=True,
            metavar="PATTERN",
            help="Repos to mirror, as 'org/*' or 'datasets/org/*'; may be given several times. "
            " [default: all]",
        ),
        click.option(
            "--upstream-deny",
            multiple=True,
            metavar="PATTERN",
            help="Repos never to mirror, nor to ask for; may be given several times.",
        ),
        click.option(
            "--upstream-size",
            type=BytesType(),
            metavar="BYTES",
            help="The most that files of that hub take; those used longest ago go first.",
        ),
        click.option(
            "--upstream-host",
            multiple=True,
            metavar="NAME",
            help="A host with a private address that the hub may lead to for files; may be given "
            "several times.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def revision_option(help_text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option --revision; None unless given, as REPO@REVISION may say it, too."""
    return click.option("--revision", help=f"{help_text}  [default: main]")


def _ask_for_json(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Session).json = True


def _choose_vault(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.ensure_object(Session).vault = value
