"""Finds families again whose names are hashed, times look-ups, and plans corpora without a hint.

    python -m weightvault.benchmarks.families.families [--corpus DIR] [--families 40] [--orders 3]
    python -m weightvault.benchmarks.families.families --lookups [--postgresql URL]
    python -m weightvault.benchmarks.families.families --corpus DIR --fit

The first pushes at least 40 families of 5 to 20 tensors (family_data.py says which are real) and
strangers (made-up ones of their shape, real norms, biases and a table of positions), one model a
tensor, in random orders, and compares what is attached to what with the truth, and what is stored
with the best plan, found by encoding every member against every other one. With --corpus, the
corpus's models are pushed too, without any --base and with the right ones, its Llama in other
layouts than its base, and the predictions of sketches are compared with real frames. --lookups
times the search for one tensor at 10^4 to 10^6 sketches. --fit prints the factors of
dedup/similarity/size_prediction.py.
Result: CSV files in benchmarks/results.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...codecs.pipeline import encode_tensor
from ...dedup.local_vault import LocalVault
from ...dedup.similarity.family_plan import choose_centres
from ...dedup.transfer.push import push
from ...store.backends.open import open_backend
from ...store.catalogue.catalogue import open_catalogue
from ..support.machine import RESULTS, save_rows
from ..support.weights import find_minilm, read_f32, round_to_bf16, write_bf16
from .family_data import Labelled, make_families, make_strangers
from .family_layouts import compare_layouts
from .family_lookups import time_lookups
from .family_predictions import compare_corpus, compare_predictions, print_fit

_SIDE = 192
_LEAST_STRANGER_BYTES = 512


def main() -> None:
    """Runs what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, help="folder with minilm and llama in it")
    parser.add_argument("--families", type=int, default=40)
    parser.add_argument("--orders", type=int, default=3)
    parser.add_argument("--lookups", action="store_true", help="only time look-ups")
    parser.add_argument("--postgresql", metavar="URL", help="an empty database, for --lookups")
    parser.add_argument("--most", type=int, default=10**6, help="sketches of --lookups at most")
    parser.add_argument("--fit", action="store_true", help="only fit the predictions")
    arguments = parser.parse_args()
    if arguments.lookups:
        record("families_lookups", time_lookups(arguments.postgresql, arguments.most))
    elif arguments.fit:
        print_fit(arguments.corpus)
    else:
        record("families", compare_plans(arguments.families, arguments.orders))
        if arguments.corpus:
            record("families_predictions", compare_predictions(arguments.corpus))
            record("families_layouts", compare_layouts(arguments.corpus))
            record("families_corpus", compare_corpus(arguments.corpus))


def compare_plans(count: int, orders: int) -> list[dict[str, Any]]:
    """Pushes the families in several orders; returns a row of figures for each."""
    tensors = [*make_families(cut_centres(count), seed=1)]
    tensors += [*make_strangers((_SIDE, _SIDE), seed=2), *read_strangers()]
    best = best_plans(tensors)
    rows = [push_in_order(tensors, best, seed) for seed in range(orders)]
    least = min(row["after"] for row in rows)
    return [{**row, "over_least_order": row["after"] / least - 1} for row in rows]


def cut_centres(count: int) -> list[np.ndarray]:
    """Returns `count` squares cut out of the real model's weight matrices, none overlapping."""
    weights = read_f32(find_minilm() / "model.safetensors")
    matrices = [w for w in weights.values() if w.ndim == 2 and min(w.shape) >= _SIDE]
    pieces = [
        matrix[i : i + _SIDE, j : j + _SIDE]
        for matrix in matrices
        for i in range(0, min(matrix.shape[0], 2 * _SIDE) - _SIDE + 1, _SIDE)
        for j in range(0, min(matrix.shape[1], 2 * _SIDE) - _SIDE + 1, _SIDE)
    ]
    step = max(1, len(pieces) // count)
    return [np.ascontiguousarray(piece) for piece in pieces[::step][:count]]


def read_strangers() -> list[Labelled]:
    """Returns the real model's norms, biases and table of positions: many of one shape, none of
    them random, and unrelated but for their kind."""
    weights = read_f32(find_minilm() / "model.safetensors")
    chosen = [w for n, w in weights.items() if w.ndim == 1 or "position_embeddings" in n]
    words = (round_to_bf16(w) for w in chosen)
    return [Labelled(None, w, "alone") for w in words if w.nbytes >= _LEAST_STRANGER_BYTES]


def best_plans(tensors: Sequence[Labelled]) -> int:
    """Returns the frame bytes of the best plan: every pair of a family is encoded."""
    total = 0
    families: dict[int, list[bytes]] = {}
    for tensor in tensors:
        if tensor.family is None:
            total += len(encode_tensor(tensor.words.tobytes(), "BF16"))
        else:
            families.setdefault(tensor.family, []).append(tensor.words.tobytes())
    for raws in families.values():
        alone = np.array([len(encode_tensor(raw, "BF16")) for raw in raws], np.float64)
        deltas = np.array([[_delta(one, other) for other in raws] for one in raws], np.float64)
        chosen = sorted(choose_centres(deltas, alone, {0}, set()))
        total += int(alone[chosen].sum() + deltas[:, chosen].min(1).sum())
    return total


def _delta(raw: bytes, base: bytes) -> int:
    return 0 if raw == base else len(encode_tensor(raw, "BF16", base=base, columns=_SIDE))


def push_in_order(tensors: Sequence[Labelled], best: int, seed: int) -> dict[str, Any]:
    """Pushes every tensor as a model of its own, then optimises; returns the figures."""
    order = np.random.default_rng(seed).permutation(len(tensors))
    with tempfile.TemporaryDirectory(prefix="weightvault-families-") as temporary:
        root = Path(temporary)
        vault = open_vault(root)
        for i in order:
            write_bf16(root / "model.safetensors", {f"t{seed}{i:05}": tensors[i].words})
            push(vault, root / "model.safetensors", f"hub/{i}")
        before = tensor_frames(vault, len(tensors))
        garbage = vault.report().garbage
        run_optimise(vault)
        after = tensor_frames(vault, len(tensors))
        row = {
            "order": seed,
            "tensors": len(tensors),
            "families": len({t.family for t in tensors} - {None}),
            "strangers": sum(t.family is None for t in tensors),
            **judge(tensors, before, "first"),
            **judge(tensors, after, "optimised"),
            "best": best,
            "before": sum(size for size, _ in before.values()),
            "garbage_before": garbage,
            "after": sum(size for size, _ in after.values()),
        }
        vault.close()
    over = {f"{name}_over_best": row[name] / best - 1 for name in ("before", "after")}
    return row | over


def open_vault(root: Path) -> LocalVault:
    """Returns a new vault in a folder."""
    backend = open_backend(str(root / "objects"))
    return LocalVault(backend, open_catalogue(f"sqlite:///{root / 'c.sqlite'}"), scratch=root)


def run_optimise(vault: LocalVault) -> None:
    """Optimises to the end."""
    cursor: int | None = 0
    while cursor is not None:
        cursor = vault.optimise(cursor).cursor


def tensor_frames(vault: LocalVault, count: int) -> dict[int, tuple[int, int | None]]:
    """Returns for each pushed tensor its frame bytes and the number of its base, if any."""
    digests: dict[bytes, int] = {}
    for i in range(count):
        (entry,) = vault.resolve(f"hub/{i}").manifest.files
        digests[next(entry.tensors).chunks[0]] = i
    places = vault.catalogue.locate(digests.keys())
    return {
        digests[digest]: (place.frame_bytes, digests[place.base] if place.base else None)
        for digest, place in places.items()
    }


def judge(
    tensors: Sequence[Labelled], frames: dict[int, tuple[int, int | None]], when: str
) -> dict[str, Any]:
    """Counts members attached to their own family, or its centre; and wrong attachments.

    A member is right when it is a delta on its own family, or is what others of it are coded
    against, of which a family needs one.
    """
    right = wrong = members = 0
    used = {base for _, base in frames.values() if base is not None}
    for i, (_, base) in frames.items():
        members += tensors[i].family is not None
        if base is not None:
            same = tensors[i].family is not None and tensors[base].family == tensors[i].family
            right, wrong = right + same, wrong + (not same)
        elif tensors[i].family is not None:
            right += i in used
    return {f"{when}_right": right / members, f"{when}_wrong": wrong}


def record(name: str, rows: list[dict[str, Any]]) -> None:
    """Writes the rows with the machine as a CSV file, and prints them."""
    save_rows(RESULTS / f"{name}.csv", rows)
    for row in rows:
        print(
            " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items())
        )


if __name__ == "__main__":
    main()
