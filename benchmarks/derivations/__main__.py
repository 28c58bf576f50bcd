"""Pushes copies after their sources and states what the tensors' frames add, in % of their bytes.

    python -m weightvault.benchmarks.derivations --corpus DIR [--last]

Each copy is pushed into a vault of its own that has the source already, without any hint. With
--last copies are pushed first and sources last, and then `optimise` runs; what the copy adds is
what both take then, less what the sources take in a vault of their own. Seconds are those of a
processor that the last push takes, with `optimise`. Copies of llama are real
files of llama.cpp; casts, FP8, pruned and transposed copies of MiniLM are made here. Result:
benchmarks/results/derivations.csv.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...dedup.local_vault import LocalVault
from ...dedup.model.files.segments import Bundle, Tensor
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
                    f"{rows[-1]['stored_share']:>8} % of {rows[-1]['tensor_bytes']} bytes"
                    f" in {rows[-1]['cpu_seconds']} s",
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
    sources = [f"org/source-{i}" for i in range(len(case.sources))]
    steps = [*zip(case.sources, sources, strict=True), (case.copy, "other/copy")]
    if sources_last:
        both, total, seconds = _fill(steps[::-1], optimised=True)
        alone, _, _ = _fill(steps[:-1], optimised=False)
        stored = sum(both.values()) - sum(alone.values())
    else:
        frames, total, seconds = _fill(steps, optimised=False)
        known, _, _ = _fill(steps[:-1], optimised=False)
        stored = sum(size for digest, size in frames.items() if digest not in known)
    return {
        "group": case.group,
        "copy": case.copy.name,
        "tensor_bytes": total,
        "frame_bytes": stored,
        "stored_share": f"{100 * stored / total:.3f}",
        "cpu_seconds": f"{seconds:.2f}",
    }


def _fill(steps: list[tuple[Path, str]], *, optimised: bool) -> tuple[dict[bytes, int], int, float]:
    """Pushes folders or files to a new vault; returns the frame bytes of all tensors' chunks, the
    raw bytes of the tensors of the copy, and the processor seconds of the last push, with what
    `optimise` took after it."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "vault").mkdir()
        vault = open_vault(root / "vault")
        start = time.process_time()
        for path, repo in steps:
            start = time.process_time()
            _push(vault, root, path, repo)
        cursor: int | None = 0 if optimised else None
        while cursor is not None:
            cursor = vault.optimise(cursor).cursor
        seconds = time.process_time() - start
        tensors = {repo: _tensors(vault, repo) for _, repo in steps}
        digests = list({digest for found in tensors.values() for digest in found})
        frames = {d: place.frame_bytes for d, place in vault.catalogue.locate(digests).items()}
        vault.close()
    return frames, sum(tensors.get("other/copy", {}).values()), seconds


def _push(vault: LocalVault, root: Path, path: Path, repo: str) -> None:
    folder = root / repo.replace("/", "-")
    folder.mkdir()
    for file in sorted(path.glob("*.safetensors")) if path.is_dir() else [path]:
        shutil.copy(file, folder / file.name)
    if "adapter" in path.name:
        # As tools that write adapters do.
        (folder / "README.md").write_text("---\nbase_model: org/source-0\n---\n")
    push(vault, folder, repo)


def _tensors(vault: LocalVault, repo: str) -> dict[bytes, int]:
    """The chunks of a repo's tensors, and how many raw bytes each has."""
    manifest = vault.resolve(repo).manifest
    found: dict[bytes, int] = {}
    for entry in manifest.files:
        sizes = {use.digest: use.size for use in entry.chunks(manifest.chunk_bytes)}
        for segment in entry.segments:
            if isinstance(segment, Tensor | Bundle):
                found |= {digest: sizes[digest] for digest in segment.chunks}
    return found


if __name__ == "__main__":
    main()
