"""Measures what the update of weights tells about an optimiser's first moments.

    python -m weightvault.benchmarks.codecs.moments --corpus DIR [--save]

DIR/minilm holds two checkpoints with their optimiser states (see its README). A frame has one
base, and for the moments of a checkpoint that is the moments of the one before. Here is what a
second one, the weights' own movement between the two, could save at most: bits per element of
sign and of magnitude. --save writes results/moments.csv.

The sign is predicted from the movement against the root of the second moment, as Adam moves
weights; its bits are 1 - H(share of right guesses) on the elements that moved. The magnitude is a
linear fit of its logarithm; its bits are the logarithm of how much narrower the error gets when
the movement joins the moments before.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ..support.machine import RESULTS, save_rows
from .delta_pairs import read_words

COLUMNS = ("tensor", "elements", "moved", "sign_agreement", "sign_bits", "magnitude_bits")
_FIRST, _SECOND = ".exp_avg", ".exp_avg_sq"


def as_floats(words: np.ndarray) -> np.ndarray:
    """Returns BF16 or F32 words as (n,) float32."""
    flat = words.ravel()
    return (flat.astype(np.uint32) << 16 if flat.itemsize == 2 else flat).view(np.float32)


def entropy(share: float) -> float:
    """Returns the bits of a coin that falls one way with probability ``share``."""
    return -sum(p * np.log2(p) for p in (share, 1 - share) if p > 0)


def spread_of_error(target: np.ndarray, known: list[np.ndarray]) -> float:
    """Returns the standard deviation of what a linear fit to ``known`` leaves of ``target``."""
    columns = np.stack([np.ones_like(target), *known], axis=1)
    fit = np.linalg.lstsq(columns, target, rcond=None)[0]
    return float(np.std(target - columns @ fit))


def logarithm(values: np.ndarray) -> np.ndarray:
    """Returns the logarithms of magnitudes, of zeros a very small one."""
    return np.log2(np.abs(values).astype(np.float64) + 1e-30)


def measure(before: Path, after: Path) -> list[dict[str, object]]:
    """Returns a row for each first moment of the checkpoint ``after``, and one for all."""
    models = [read_words(folder / "model.safetensors") for folder in (before, after)]
    states = [read_words(folder / "optimizer.safetensors") for folder in (before, after)]
    rows = []
    for key in states[1]:
        if not key.endswith(_FIRST):
            continue
        name = key.removesuffix(_FIRST)
        moved = np.subtract(*(as_floats(model[name]) for model in reversed(models)))
        old, first = (as_floats(state[key]) for state in states)
        old_second, second = (as_floats(state[name + _SECOND]) for state in states)
        rows.append({"tensor": name, **compare(first, second, old, old_second, moved)})
    sizes = [float(str(row["elements"])) for row in rows]
    total: dict[str, object] = {"tensor": "all", "elements": int(sum(sizes))}
    for column in COLUMNS[2:]:
        values = [float(str(row[column])) for row in rows]
        total[column] = round(float(np.average(values, weights=sizes)), 4)
    return [*rows, total]


def compare(
    first: np.ndarray,
    second: np.ndarray,
    old: np.ndarray,
    old_second: np.ndarray,
    moved: np.ndarray,
) -> dict[str, object]:
    """Returns what ``moved`` (n,) adds to the moments before, for one tensor."""
    has_moved = moved != 0
    guess = np.sign(-moved * np.sqrt(second))
    agreement = float(np.mean(guess[has_moved] == np.sign(first[has_moved])))
    known = [logarithm(old), logarithm(old_second)]
    target = logarithm(first)
    gain = spread_of_error(target, known) / spread_of_error(target, [*known, logarithm(moved)])
    share = float(np.mean(has_moved))
    return {
        "elements": first.size,
        "moved": round(share, 4),
        "sign_agreement": round(agreement, 4),
        "sign_bits": round(share * (1 - entropy(agreement)), 4),
        "magnitude_bits": round(float(np.log2(gain)), 4),
    }


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True, help="folder with minilm/")
    parser.add_argument("--save", action="store_true", help=f"write into {RESULTS.name}/")
    arguments = parser.parse_args()
    minilm = arguments.corpus / "minilm"
    rows = measure(minilm / "checkpoint-120-bf16", minilm / "checkpoint-180-bf16")
    for row in rows:
        print("  ".join(f"{column} {row[column]}" for column in COLUMNS))
    if arguments.save:
        save_rows(RESULTS / "moments.csv", rows)


if __name__ == "__main__":
    main()
