"""Options and arguments that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from .console import Session


def verb(name: str) -> Callable[[Callable[..., None]], click.Command]:
    """Makes a function a verb: it takes the session first, and the verb an option --json."""

    def decorate(function: Callable[..., None]) -> click.Command:
        return click.command(name)(json_option(click.pass_obj(function)))

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


def revision_option(help_text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option --revision, `main` unless given."""
    return click.option("--revision", default="main", show_default=True, help=help_text)


def _ask_for_json(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Session).json = True
