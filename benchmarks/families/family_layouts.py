"""Pushes a base in one layout and its fine-tune in another: what the difference in layout costs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from ...dedup.local_vault import LocalVault
from ...dedup.transfer.push import push
from ...store.backends.open import open_backend
from ...store.catalogue.catalogue import open_catalogue
from ..support.weights import write_bf16
from .family_predictions import read_tensors

Words = dict[str, np.ndarray]
Layout = Callable[[Words], list[Words]]
"""Gives the files of a model, each as named bfloat16 words (`uint16`)."""

_SHARDS = 3


def compare_layouts(corpus: Path) -> list[dict[str, Any]]:
    """Returns for each pair of layouts the bytes that the corpus's Llama fine-tune takes beside its
    base, with no base declared, and how many times what it takes in the base's own layout."""
    base, tuned = (_read_words(corpus / "llama" / name) for name in ("base", "tuned"))
    short_base, short_tuned = _cut_vocabulary(base), _cut_vocabulary(tuned)
    rows = [
        _row("the same", "one file", one_file, one_file, base, tuned),
        _row("names hashed", "one file", one_file, rename, base, tuned),
        _row("one file, then shards", "one file", one_file, shard, base, tuned),
        _row("shards, then one file", "one file", shard, one_file, base, tuned),
        _row("q k v, gate up fused later", "one file", one_file, fuse, base, tuned),
        _row("q k v, gate up fused first", "one file", fuse, one_file, base, tuned),
        _row("short vocabulary", "short vocabulary", one_file, one_file, short_base, short_tuned),
        _row("16 rows more", "short vocabulary", one_file, extend, short_base, short_tuned),
        _row("16 rows fewer", "short vocabulary", extend, one_file, short_base, short_tuned),
    ]
    direct = {row["layout"]: row["sent"] for row in rows}
    reference = {"one file": direct["the same"], "short vocabulary": direct["short vocabulary"]}
    return [{**row, "times_direct": row["sent"] / reference[row["against"]]} for row in rows]


def one_file(words: Words) -> list[Words]:
    """As it is."""
    return [words]


def rename(words: Words) -> list[Words]:
    """Names that tell nothing, in their order."""
    hashed = {blake3(name.encode()).hexdigest()[:16]: values for name, values in words.items()}
    return [dict(sorted(hashed.items()))]


def shard(words: Words) -> list[Words]:
    """Several files, every third tensor in each."""
    items = list(words.items())
    return [dict(items[i::_SHARDS]) for i in range(_SHARDS)]


def fuse(words: Words) -> list[Words]:
    """Queries, keys and values as one tensor, as are gate and up projection: as Phi-3 has them."""
    fused: Words = {}
    for name, values in words.items():
        for parts, whole in ((("q", "k", "v"), "qkv"), (("gate", "up"), "gate_up")):
            if any(f".{part}_proj." in name for part in parts):
                stem, _, rest = name.partition(f".{_part_of(name, parts)}_proj.")
                names = [f"{stem}.{part}_proj.{rest}" for part in parts]
                fused[f"{stem}.{whole}_proj.{rest}"] = np.concatenate([words[n] for n in names])
                break
        else:
            fused[name] = values
    return [fused]


def extend(words: Words) -> list[Words]:
    """Sixteen rows more in the embedding, as they come with new tokens."""
    rng = np.random.default_rng(1)
    name = _embedding(words)
    rows = words[name][rng.integers(len(words[name]), size=16)]
    return [{**words, name: np.concatenate([words[name], rows])}]


def _part_of(name: str, parts: tuple[str, ...]) -> str:
    return next(part for part in parts if f".{part}_proj." in name)


def _embedding(words: Words) -> str:
    return next(name for name in words if "embed_tokens" in name)


def _cut_vocabulary(words: Words) -> Words:
    """Leaves so many rows of the embedding that sixteen more cross a power of two."""
    name = _embedding(words)
    rows = 1 << (len(words[name]).bit_length() - 1)
    return {**words, name: words[name][: rows - 8]}


def _read_words(model: Path) -> Words:
    found = read_tensors(model).values()
    return {t.name: np.frombuffer(raw, np.uint16).reshape(t.shape) for t, raw in found}


def _row(
    layout: str, against: str, first: Layout, second: Layout, base: Words, tuned: Words
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="weightvault-layouts-") as temporary:
        root = Path(temporary)
        backend = open_backend(str(root / "objects"))
        vault = LocalVault(backend, open_catalogue(f"sqlite:///{root / 'c.sqlite'}"), scratch=root)
        alone = push(vault, _write(root / "base", first(base)), "hub/base").sent
        sent = push(vault, _write(root / "tuned", second(tuned)), "hub/tuned").sent
        bases = list(_tensor_bases(vault, "hub/tuned"))
        # The same weights once more: only the files' heads are new.
        again = push(vault, _write(root / "again", second(base)), "hub/again").sent
        vault.close()
    with_base = sum(base is not None for base in bases) / len(bases)
    return {
        "layout": layout,
        "against": against,
        "base_sent": alone,
        "sent": sent,
        "chunks_with_base": with_base,
        "base_in_that_layout_sent": again,
    }


def _write(folder: Path, files: list[Words]) -> Path:
    folder.mkdir()
    for i, words in enumerate(files):
        write_bf16(folder / f"model-{i}.safetensors", words)
    return folder


def _tensor_bases(vault: LocalVault, repo: str) -> Iterator[bytes | None]:
    """Yields the base of each chunk of a tensor of some size."""
    digests = {
        digest
        for entry in vault.resolve(repo).manifest.files
        for tensor in entry.tensors
        if tensor.size >= 1 << 14
        for digest in tensor.chunks
    }
    return (place.base for place in vault.catalogue.locate(digests).values())
