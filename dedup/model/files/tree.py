"""The files of a revision while it is changed: folders as a tree, so that a change costs the parts
of its path, however many files and changes there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .entries import FileEntry


class FileTree:
    """Files by path. What is written over a folder, or below a file, is refused when files are
    listed (manifest.check_paths), as a later change may make room for it."""

    def __init__(self) -> None:
        self._files: dict[str, FileEntry] = {}
        # Folders within folders, by name; a file is a folder of nothing. Made when first needed.
        self._folders: dict[str, Any] | None = None

    def add(self, path: str, entry: FileEntry) -> None:
        """Writes a file, or writes it over."""
        self._files[path] = entry
        if self._folders is not None:
            _grow(self._folders, path)

    def remove(self, path: str, *, folder: bool) -> bool:
        """Takes away a file, or all below a folder of that name where there is no such file; with
        `folder` a file stays. Says whether there was any."""
        if not folder and self._files.pop(path, None) is not None:
            return True
        gone = [found for found in self._below(path) if found in self._files]
        for found in gone:
            del self._files[found]
        return bool(gone)

    def items(self) -> Iterator[tuple[str, FileEntry]]:
        """Yields paths and files."""
        yield from self._files.items()

    def _below(self, folder: str) -> list[str]:
        """Returns the paths below a folder, and forgets them as its content."""
        if self._folders is None:
            self._folders = {}
            for path in self._files:
                _grow(self._folders, path)
        *parents, name = folder.split("/")
        tree = self._folders
        for parent in parents:
            tree = tree.get(parent, {})
        found: list[str] = []
        stack = [(f"{folder}/{part}", inside) for part, inside in tree.pop(name, {}).items()]
        while stack:
            path, inside = stack.pop()
            found.append(path)
            stack.extend((f"{path}/{part}", below) for part, below in inside.items())
        if folder in self._files:
            _grow(self._folders, folder)
        return found


def _grow(folders: dict[str, Any], path: str) -> None:
    for part in path.split("/"):
        folders = folders.setdefault(part, {})
