"""Files as clients of hubs see them: small ones as git blobs, large ones as git-lfs pointers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from ...dedup.local_vault import LocalVault
from ...dedup.model.files.entries import FileEntry
from ...dedup.model.files.manifest import Manifest
from ...dedup.repository.file_hashes import git_hasher, hashes_in
from ...store.catalogue.files.hashes import HashRow
from .attributes import LfsRules, is_lfs, read_rules


class TreeFile(Protocol):
    """A file as a listing has it."""

    @property
    def path(self) -> str:
        """Where it is."""
        ...

    @property
    def blob(self) -> bytes:
        """The hash that git gives it."""
        ...

    def tree_entry(self) -> dict[str, Any]:
        """Its line of a tree listing."""
        ...


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a revision, its hashes, and whether it is one of git-lfs."""

    entry: FileEntry
    hashes: HashRow
    lfs: bool

    @property
    def path(self) -> str:
        """Where it is."""
        return self.entry.path

    @property
    def etag(self) -> str:
        """The hash that names its content: SHA-256 for those of git-lfs, else that of the blob."""
        return self.hashes.sha256.hex() if self.lfs else self.hashes.git_sha1.hex()

    @property
    def blob(self) -> bytes:
        """What git calls the blob: of the pointer, for those of git-lfs."""
        if not self.lfs:
            return self.hashes.git_sha1
        pointer = self.pointer()
        hasher = git_hasher(len(pointer))
        hasher.update(pointer)
        return hasher.digest()

    def tree_entry(self) -> dict[str, Any]:
        """Its line of a tree listing."""
        entry: dict[str, Any] = {
            "type": "file",
            "oid": self.blob.hex(),
            "size": self.entry.size,
            "path": self.entry.path,
        }
        return entry | ({"lfs": self.lfs_info()} if self.lfs else {})

    def lfs_info(self) -> dict[str, Any]:
        """What a listing tells of a file of git-lfs."""
        return {
            "oid": self.hashes.sha256.hex(),
            "size": self.entry.size,
            "pointerSize": len(self.pointer()),
        }

    def pointer(self) -> bytes:
        """What git has in its place, if it is one of git-lfs."""
        return make_pointer(self.hashes.sha256.hex(), self.entry.size)


def make_pointer(oid: str, size: int) -> bytes:
    """Returns the pointer to a file of git-lfs; `oid` is its SHA-256 in hexadecimal."""
    lines = ("version https://git-lfs.github.com/spec/v1", f"oid sha256:{oid}", f"size {size}")
    return "".join(f"{line}\n" for line in lines).encode()


def hub_files(
    vault: LocalVault, manifest: Manifest, rules: LfsRules | None = None
) -> dict[str, HubFile]:
    """Returns the files of a manifest by path; `rules` are those of its revision, where it is but a
    part of that."""
    hashes = hashes_in(vault, manifest)
    said = read_rules(vault, manifest) if rules is None else rules
    return {
        entry.path: HubFile(entry, hashes[entry.digest], is_lfs(entry.path, entry.size, said))
        for entry in manifest.files
    }


def hub_file(vault: LocalVault, manifest: Manifest, entry: FileEntry) -> HubFile:
    """Returns one file of a manifest."""
    only = Manifest((entry,), manifest.chunk_bytes)
    return hub_files(vault, only, read_rules(vault, manifest))[entry.path]


def list_tree(files: Iterable[TreeFile], folder: str, recursive: bool) -> Iterator[dict[str, Any]]:
    """Yields the lines of a listing of `folder` ("" for all) by path; `files` are in that order."""
    tree = _grow(files)
    for part in filter(None, folder.split("/")):
        found = tree.get(part)
        if not isinstance(found, dict):
            return
        tree = found
    yield from _walk(tree, f"{folder}/" if folder else "", recursive, {})


_Tree = dict[str, Any]
_Hashes = dict[int, bytes]


def _grow(files: Iterable[TreeFile]) -> _Tree:
    root: _Tree = {}
    for file in files:
        *folders, name = file.path.split("/")
        tree = root
        for folder in folders:
            tree = tree.setdefault(folder, {})
        tree[name] = file
    return root


def _walk(tree: _Tree, prefix: str, recursive: bool, known: _Hashes) -> Iterator[dict[str, Any]]:
    for name in sorted(tree):
        found = tree[name]
        if not isinstance(found, dict):
            yield found.tree_entry()
            continue
        oid = _tree_hash(found, known).hex()
        yield {"type": "directory", "oid": oid, "size": 0, "path": prefix + name}
        if recursive:
            yield from _walk(found, f"{prefix}{name}/", recursive, known)


def _tree_hash(tree: _Tree, known: _Hashes) -> bytes:
    """The hash that git gives a folder: of the modes, names and hashes of what is in it.

    Those of folders are `known` by their trees from then on, as each of the folders above asks.
    """
    if id(tree) in known:
        return known[id(tree)]
    rows = [
        (f"{name}/", b"40000", name, _tree_hash(found, known))
        if isinstance(found, dict)
        else (name, b"100644", name, found.blob)
        for name, found in tree.items()
    ]
    body = b"".join(b"%s %s\0%s" % (mode, n.encode(), oid) for _, mode, n, oid in sorted(rows))
    oid = hashlib.sha1(b"tree %d\0" % len(body) + body, usedforsecurity=False).digest()
    known[id(tree)] = oid
    return oid
