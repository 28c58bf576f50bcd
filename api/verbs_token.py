"""The verbs about tokens: who may come in over HTTP."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from . import config
from .console import Session, format_table
from .options import verb
from .terminal import show

if TYPE_CHECKING:
    from ..store.tokens import TokenRow

# As tokens.ROLES, which takes a catalogue to import.
_ROLES = ("read", "write", "admin")


@click.group("token")
def token() -> None:
    """Make, list and revoke the tokens that let clients in over HTTP.

    While there was never one, everybody who reaches a server of the vault may do everything.
    """


@verb("create")
@click.option("--name", required=True, help="What it is called; also the author of its commits.")
@click.option("--role", required=True, type=click.Choice(_ROLES), help="What it may do.")
@click.option("--namespace", help="Limit it to the repos of this namespace.")
def create(session: Session, name: str, role: str, namespace: str | None) -> None:
    """Make a token and print it, once: it is not kept."""
    from .tokens import create_token

    vault = config.open_local_vault(session.local_url(), session.catalogue)
    try:
        made = create_token(vault, name, role, namespace)
    finally:
        vault.close()
    session.emit(_document(made.row) | {"token": made.secret}, made.secret)


@verb("list")
def list_all(session: Session) -> None:
    """List the tokens there are and were."""
    from ..dedup.translate import store_errors
    from ..store.tokens import list_tokens

    with session.open_local() as vault, store_errors():
        rows = list_tokens(vault.catalogue)
    head = ("id", "name", "role", "namespace", "created", "revoked")
    lines = [head, *((r.id, r.name, r.role, r.namespace or "all", *_dates(r)) for r in rows)]
    text = format_table(lines, left=len(head)) if rows else "no tokens: the vault is open"
    session.emit({"tokens": [_document(row) for row in rows]}, text)


@verb("revoke")
@click.argument("token")
def revoke(session: Session, token: str) -> None:
    """Revoke the TOKEN of that id, or those of that name."""
    from .tokens import revoke_token

    with session.open_local() as vault:
        gone = revoke_token(vault, token)
    text = "\n".join(f"revoked {row.id} ({show(row.name)})" for row in gone)
    session.emit({"revoked": [row.id for row in gone]}, text)


for _command in (create, list_all, revoke):
    token.add_command(_command)


def _document(row: TokenRow) -> dict[str, Any]:
    names = ("id", "name", "role", "namespace", "created", "revoked")
    return {name: getattr(row, name) for name in names}


def _dates(row: TokenRow) -> tuple[str, str]:
    return _date(row.created), "" if row.revoked is None else _date(row.revoked)


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
