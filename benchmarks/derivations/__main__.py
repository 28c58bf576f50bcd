"""Pushes copies after their sources and states what the tensors' frames add, in % of their bytes.

    python -m weightvault.benchmarks.derivations --corpus DIR [--last]

Each copy is pushed into a vault of its own that has the source already, without any hint. With
--last copies are pushed first and sources last, and then `optimise` runs. Copies of llama are real
files of llama.cpp; casts, FP8, pruned and transposed copies of MiniLM are made here. Result:
benchmarks/results/derivations.csv.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...dedup.local_vault import LocalVault
from ...dedup.model.files.segments import Tensor
from ...dedup.transfer.push import push
from ..support.machine import RESULTS, save_rows
from ..support.vaults import open_vault
from .copies import Copies, make_copies

_QUANTS = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K", "IQ4_XS", "F16", "BF16")


@dataclass(frozen=True)
class Case:
    """A copy that is pushed beside its sources."""

    group: str
    copy: Path
    sources: tuple[Path, ...]


def main() -> None:
    """Measures every case and keeps the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True, help="folder with minilm and llama")
    parser.add_argument("--last", action="store_true", help="push the sources last")
    parser.add_argument("--only", default="", help="cases whose names contain this")
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as made:
        copies = make_copies(arguments.corpus, Path(made))
        for case in _cases(arguments.corpus, copies):
            if arguments.only in f"{case.group} {case.copy.name}":
                rows.append(_measure(case, sources_last=arguments.last))
                print(
                    f"{case.group:28} {case.copy.name:28} "
                    f"{rows[-1]['stored_share']:>8} % of {rows[-1]['tensor_bytes']} bytes",
                    flush=True,
                )
    if not arguments.only:
        name = "derivations_sources_last" if arguments.last else "derivations"
        save_rows(RESULTS / f"{name}.csv", rows)


def _cases(corpus: Path, made: Copies) -> Iterator[Case]:
    llama = corpus / "llama"
    files = {name: llama / "gguf" / f"base-{name}.gguf" for name in _QUANTS}
    for name in _QUANTS:
        yield Case("gguf beside the source", files[name], (llama / "base",))
    for name in _QUANTS[1:8]:
        yield Case("gguf beside Q8_0 alone", files[name], (files["Q8_0"],))
    for name in _QUANTS[:8]:
        yield Case("gguf beside a relative", files[name], (llama / "tuned",))
    for group, copy, sources in made:
        yield Case(group, copy, sources)


def _measure(case: Case, *, sources_last: bool) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "vault").mkdir()
        vault = open_vault(root / "vault")
        push_sources: list[Callable[[], object]] = [
            _pusher(vault, root, source, f"org/source-{i}") for i, source in enumerate(case.sources)
        ]
        push_copy = _pusher(vault, root, case.copy, "other/copy")
        for step in [push_copy, *push_sources] if sources_last else [*push_sources, push_copy]:
            step()
        if sources_last:
            cursor: int | None = 0
            while cursor is not None:
                cursor = vault.optimise(cursor).cursor
        known = {d for i in range(len(case.sources)) for d in _tensors(vault, f"org/source-{i}")}
        new = {d: n for d, n in _tensors(vault, "other/copy").items() if d not in known}
        stored = sum(place.frame_bytes for place in vault.catalogue.locate(list(new)).values())
        total = sum(_tensors(vault, "other/copy").values())
        vault.close()
    return {
        "group": case.group,
        "copy": case.copy.name,
        "tensor_bytes": total,
        "frame_bytes": stored,
        "stored_share": f"{100 * stored / total:.3f}",
    }


def _pusher(vault: LocalVault, root: Path, path: Path, repo: str) -> Callable[[], object]:
    folder = root / repo.replace("/", "-")
    folder.mkdir()
    for file in sorted(path.glob("*.safetensors")) if path.is_dir() else [path]:
        shutil.copy(file, folder / file.name)
    return lambda: push(vault, folder, repo)


def _tensors(vault: LocalVault, repo: str) -> dict[bytes, int]:
    """The chunks of a repo's tensors, and how many raw bytes each has."""
    manifest = vault.resolve(repo).manifest
    found: dict[bytes, int] = {}
    for entry in manifest.files:
        sizes = {use.digest: use.size for use in entry.chunks(manifest.chunk_bytes)}
        for segment in entry.segments:
            if isinstance(segment, Tensor):
                found |= {digest: sizes[digest] for digest in segment.chunks}
    return found


if __name__ == "__main__":
    main()
