"""The verb token: API tokens."""

from __future__ import annotations

import time
from dataclasses import asdict

import click

from .... import config
from ....formatting import format_table
from ....protocol.token_info import TokenInfo, choose_tokens
from ...console import Session
from ...options import SecondsType, verb

# As store.catalogue.tokens has them, which takes a catalogue to import.
_ROLES = ("read", "write", "admin")
_EVERYWHERE = "*"
_OVERLAP = "1d"


class RoleInType(click.ParamType):
    """A namespace, or one with the role there, as `acme=write`."""

    name = "namespace"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str | None]:
        """Returns namespace and role, None where it has none."""
        namespace, given, role = str(value).partition("=")
        if given and role not in _ROLES:
            self.fail(f"{value!r} has no role: write NAME=ROLE, {', '.join(_ROLES)}", param, ctx)
        return namespace, role if given else None


@click.group("token")
def token() -> None:
    """Make, list, rotate and revoke the tokens that give clients access over HTTP.

    While there was never one, everybody who reaches a server of the vault may do everything.
    """


@verb("create")
@click.option("--name", required=True, help="Whose it is, or what for.")
@click.option("--role", type=click.Choice(_ROLES), help="What it may do.")
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    type=RoleInType(),
    metavar="NAME[=ROLE]",
    help="Limit it to the repos of this namespace, with a role of its own there; may be given "
    "several times.",
)
@click.option(
    "--expires", type=SecondsType(), metavar="TIME", help="How long it is valid, such as 90d."
)
def create(
    session: Session,
    name: str,
    role: str | None,
    namespaces: tuple[tuple[str, str | None], ...],
    expires: float | None,
) -> None:
    """Make a token and print it, once: it is not kept."""
    from ....requests.tokens import make_token

    roles = _roles(role, namespaces)
    vault = config.open_local_vault(session.local_url(), session.catalogue)
    try:
        made = make_token(vault, name, roles, lifetime_seconds=expires)
    finally:
        vault.close()
    session.emit(asdict(made.info) | {"token": made.secret}, made.secret)


@verb("list")
def list_all(session: Session) -> None:
    """List the tokens there are and were; of a server, those of whoever holds WEIGHTVAULT_TOKEN,
    or all for an administrator."""
    found = _list(session)
    head = ("id", "name", "may", "created", "last used", "state")
    lines = [head, *(_line(info) for info in found)]
    text = format_table(lines, left=len(head)) if found else "no tokens"
    session.emit({"tokens": [asdict(info) for info in found]}, text)


@verb("rotate")
@click.argument("token")
@click.option(
    "--overlap",
    type=SecondsType(),
    default=_OVERLAP,
    show_default=True,
    metavar="TIME",
    help="How long the old token stays valid.",
)
def rotate(session: Session, token: str, overlap: float) -> None:
    """Make a token that takes the place of the TOKEN of that id or name, and print it, once."""
    from ....requests.tokens import rotate_token

    with session.open_local() as vault:
        done = rotate_token(vault, token, overlap)
    new = done.new
    if not session.json:
        until = _date(done.old.expires or 0.0)
        click.echo(f"{done.old.id} is valid until {until}; in its place from now on:", err=True)
    document = asdict(new.info) | {"token": new.secret}
    session.emit(document | {"old": {"id": done.old.id, "expires": done.old.expires}}, new.secret)


@verb("revoke")
@click.argument("token")
def revoke(session: Session, token: str) -> None:
    """Revoke the TOKEN of that id, or those of that name."""
    gone = _revoke(session, token)
    text = "\n".join(f"revoked {token_id} ({name})" for token_id, name in gone)
    session.emit({"revoked": [token_id for token_id, _ in gone]}, text)


for _command in (create, list_all, rotate, revoke):
    token.add_command(_command)


def _roles(role: str | None, namespaces: tuple[tuple[str, str | None], ...]) -> dict[str, str]:
    if not namespaces:
        if role is None:
            raise click.UsageError("say what the token may do: --role, or --namespace NAME=ROLE")
        return {_EVERYWHERE: role}
    roles: dict[str, str] = {}
    for namespace, own in namespaces:
        found = own or role
        if found is None:
            raise click.UsageError(f"say what the token may do in {namespace}: {namespace}=ROLE")
        if roles.setdefault(namespace, found) != found:
            raise click.UsageError(f"{namespace} is given two roles")
    return roles


def _list(session: Session) -> list[TokenInfo]:
    if config.is_server(session.url):
        vault = config.open_server(session.url)
        try:
            return vault.list_tokens()
        finally:
            vault.close()
    from ....requests.tokens import describe_tokens

    with session.open_local() as local:
        return describe_tokens(local)


def _revoke(session: Session, wanted: str) -> list[tuple[str, str]]:
    if not config.is_server(session.url):
        from ....requests.tokens import revoke_token

        with session.open_local() as local:
            return [(row.id, row.name) for row in revoke_token(local, wanted)]
    vault = config.open_server(session.url)
    try:
        found = choose_tokens(vault.list_tokens(), wanted)
        for info in found:
            vault.revoke_token(info.id)
    finally:
        vault.close()
    return [(info.id, info.name) for info in found]


def _line(info: TokenInfo) -> tuple[str, ...]:
    used = "" if info.last_used is None else _date(info.last_used)
    return (info.id, info.name, _rights(info), _date(info.created), used, _state(info))


def _rights(info: TokenInfo) -> str:
    parts = (
        role if namespace == _EVERYWHERE else f"{role} in {namespace}"
        for namespace, role in info.roles.items()
    )
    return ", ".join(parts)


def _state(info: TokenInfo) -> str:
    if info.revoked is not None:
        return f"revoked {_date(info.revoked)}"
    if info.expires is None:
        return "valid"
    word = "expired" if info.expires <= time.time() else "valid until"
    return f"{word} {_date(info.expires)}"


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
