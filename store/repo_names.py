"""Names of repos in their parts: `acme/x` holds a model, `datasets/acme/x` and `spaces/acme/x` what
else hubs have. Whether a text is such a name is for dedup/model/names.py to say."""

from __future__ import annotations

from dataclasses import dataclass

MODELS = "models"
"""The kind of repos whose names begin with their namespace."""
DATASETS = "datasets"
SPACES = "spaces"
KINDS = (DATASETS, SPACES)
"""What the names of repos that hold no model begin with; no namespace is called so."""


@dataclass(frozen=True, slots=True)
class RepoName:
    """The name of a repo in its parts. `kind` is MODELS, or one of KINDS, which then comes first in
    the name: `str` gives that."""

    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, text: str) -> RepoName:
        """Takes a name apart, of two or three parts. Raises ValueError for any other number."""
        parts = text.split("/")
        if len(parts) == 2:
            return cls(MODELS, *parts)
        kind, namespace, name = parts
        return cls(kind, namespace, name)

    @property
    def id(self) -> str:
        """What clients of hubs call it, whatever its kind: `namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def prefix(self) -> str:
        """What comes before the namespace, without a slash: nothing or the kind."""
        return "" if self.kind == MODELS else self.kind

    def __str__(self) -> str:
        return self.id if self.kind == MODELS else f"{self.kind}/{self.id}"


def namespace_of(repo: str) -> str:
    """Returns the namespace of a repo, whatever its kind."""
    return RepoName.of(repo).namespace


def namespace_prefixes(namespace: str) -> list[str]:
    """Returns what the names of all repos of a namespace begin with, kind by kind."""
    return [str(RepoName(kind, namespace, "")) for kind in (MODELS, *KINDS)]
