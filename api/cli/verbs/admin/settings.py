"""The verb that decides what a vault goes by, for all who use it from then on."""

from __future__ import annotations

import click

from ...console import Session
from ...options import verb

# As store.catalogue.owners.CHOICES, which takes SQLAlchemy to import; and what takes a decision
# back.
_SHARING = ("all", "own", "default")

_MEANING = {
    "all": "weights may be encoded against those of any namespace; other files never",
    "own": "chunks are encoded only against what all their owners may read",
    "default": "as the tokens say: free until one is limited to a namespace, then as with `own`",
}


@click.group("settings")
def settings() -> None:
    """Show or change what holds for the whole vault."""


@verb("base-sharing")
@click.argument("choice", required=False, type=click.Choice(_SHARING))
def base_sharing(session: Session, choice: str | None) -> None:
    """Decide against whose weights new ones may be encoded; without CHOICE, tell.

    \b
    own      Only against what all owners of a chunk may read: their own, and public repos.
    all      Against weights of every namespace. This saves space where tenants tune the same
             private models, and tells a tenant by stored sizes that somebody has a similar model.
    default  As `own` from the first token that is limited to a namespace; before, no limits.

    Files that are not weights are never encoded against those of other namespaces. What is stored
    already is checked and encoded again in the background by a running server.
    """
    with session.open_local() as vault:
        if choice is not None:
            vault.share_bases(None if choice == "default" else choice)
        found = vault.base_sharing() or "default"
    session.emit({"base_sharing": found}, f"base-sharing {found}: {_MEANING[found]}")


@verb("bills")
@click.argument("choice", required=False, type=click.Choice(("shown", "hidden")))
def bills(session: Session, choice: str | None) -> None:
    """Decide whether tokens that are limited to a namespace see its bill; without CHOICE, tell.

    \b
    hidden  They see logical and unique bytes alone. This is the default.
    shown   They see what is billed to their namespaces, and the money. These depend on what others
            have: a namespace can tell from its share that somebody has the same content.
    """
    with session.open_local() as vault:
        if choice is not None:
            vault.show_bills(choice == "shown")
        found = "shown" if vault.shows_bills() else "hidden"
    session.emit({"bills": found}, f"bills {found}")


settings.add_command(base_sharing)
settings.add_command(bills)
