"""Opens the vaults that benchmarks fill."""

from __future__ import annotations

from pathlib import Path

from ...dedup.local_vault import LocalVault
from ...store.backends.open import open_backend
from ...store.catalogue.catalogue import open_catalogue


def open_vault(root: Path) -> LocalVault:
    """The vault in a folder, as a server that is given the folder opens it."""
    catalogue = open_catalogue(f"sqlite:///{root / 'catalogue.sqlite'}")
    return LocalVault(open_backend(str(root / "objects")), catalogue, scratch=root)
