"""Makes docs/reference.md of the docstrings of the Python library; imports nothing of it.

python docs/make_reference.py
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).parent
LIBRARY = DOCS.parent / "api" / "library"

# A module, what of it is shown, and by which name; a class with what it inherits.
PARTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("opening.py open_vault", "wv.open", ()),
    ("opening.py safe_open", "wv.safe_open", ()),
    ("opening.py load_file", "wv.load_file", ()),
    ("vault.py Vault", "wv.Vault", ("handle.py Handle",)),
    ("repo.py Repo", "wv.Repo", ()),
    ("repo.py TensorInfo", "wv.TensorInfo", ()),
    ("tensor_file.py TensorFile", "wv.TensorFile", ()),
    ("tensor_file.py TensorSlice", "wv.TensorSlice", ()),
    ("diff.py Diff", "wv.Diff", ()),
    ("diff.py FileChange", "wv.FileChange", ()),
    ("diff.py TensorChange", "wv.TensorChange", ()),
    ("adapters/torch.py load_state_dict", "wv.torch.load_state_dict", ()),
    ("adapters/pretrained.py from_pretrained", "wv.torch.from_pretrained", ()),
    ("adapters/torch.py compress", "wv.torch.compress", ()),
    ("adapters/torch.py Compressed", "wv.torch.Compressed", ()),
    ("adapters/filesystem.py VaultFileSystem", "fsspec.filesystem('wv')", ()),
)
# What is for the library itself.
HIDDEN = {"connect", "on_close", "commit_file"}

Named = ast.ClassDef | ast.FunctionDef


def make_reference() -> str:
    """Returns the page."""
    lines = ["# Reference of the Python library", "", "Made of the docstrings by"]
    lines[-1] += " `docs/make_reference.py`; [library.md](library.md) explains."
    for place, name, bases in PARTS:
        lines += ["", *_describe(_find(place), name, [_find(base) for base in bases])]
    aio = ast.get_docstring(_parse("adapters/aio.py")) or ""
    lines += ["", "## `wv.aio`", "", aio]
    errors = ast.get_docstring(_parse("errors.py")) or ""
    first, _, rest = errors.partition("\n\n")
    tree, _, after = rest.partition("\n\n")
    lines += ["", "## `wv.errors`", "", first, "", "```text", inspect.cleandoc(tree), "```"]
    return "\n".join([*lines, "", after, ""])


def _describe(found: Named, name: str, bases: list[Named]) -> Iterator[str]:
    if isinstance(found, ast.FunctionDef):
        yield f"## `{name}{_signature(found)}`"
        yield from _paragraphs(found)
        return
    yield f"## `{name}`"
    yield from _paragraphs(found)
    fields = [node for node in found.body if isinstance(node, ast.AnnAssign)]
    if fields:
        yield ""
        yield from (f"- `{ast.unparse(field)}`" for field in fields)
    for each in (found, *bases):
        for node in each.body:
            public = isinstance(node, ast.FunctionDef) and node.name[0] != "_"
            if (public and node.name not in HIDDEN) or _is_index(node):
                assert isinstance(node, ast.FunctionDef)
                yield ""
                yield f"### `{node.name}{_signature(node)}`"
                yield from _paragraphs(node)


def _is_index(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "__getitem__"


def _paragraphs(node: Named) -> Iterator[str]:
    yield ""
    yield ast.get_docstring(node) or ""


def _signature(function: ast.FunctionDef) -> str:
    arguments = function.args
    if arguments.args and arguments.args[0].arg in ("self", "cls"):
        arguments.args = arguments.args[1:]
    returns = "" if function.returns is None else f" -> {ast.unparse(function.returns)}"
    return f"({ast.unparse(arguments)}){returns}"


def _find(place: str) -> Named:
    module, _, name = place.partition(" ")
    return next(
        node
        for node in _parse(module).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name
    )


def _parse(module: str) -> ast.Module:
    return ast.parse((LIBRARY / module).read_text())


if __name__ == "__main__":
    (DOCS / "reference.md").write_text(make_reference())
