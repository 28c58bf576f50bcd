"""How the name of a repo says whose it is: `acme/x`, `datasets/acme/x`, `spaces/acme/x`."""

from __future__ import annotations

KINDS = ("datasets", "spaces")
"""What the names of repos that hold no model begin with; no namespace is called so."""


def namespace_of(repo: str) -> str:
    """Returns the namespace of a repo, whatever its kind."""
    return repo.split("/")[-2]


def namespace_prefixes(namespace: str) -> list[str]:
    """Returns what the names of all repos of a namespace begin with, kind by kind."""
    return [f"{namespace}/", *(f"{kind}/{namespace}/" for kind in KINDS)]
