"""Throws hostile recipes at the parser and the evaluator: typed errors, bounded memory and time.

    python -m weightvault.benchmarks.attacks.recipes [--count 1000000] [--seed 1] [--more]

Recipes are random, or valid ones of every operation with bytes changed, taken out and put in, for
outputs of up to 64 KiB and random inputs; what is quantised is predicted in stages, too. Any error
but InvalidRecipe ends the run with the recipe that caused it. Result:
benchmarks/results/attacks_recipes.csv; with --more the rows of other seeds stay.
"""

from __future__ import annotations

import argparse
import csv
import resource
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ...codecs.dtypes import BY_NAME, QUANTISED, Dtype, find_dtype
from ...codecs.quantised import staged
from ...dedup.derivations.operations.errors import InvalidRecipe
from ...dedup.derivations.operations.gguf.layout import fields
from ...dedup.derivations.operations.merges import elementwise, low_rank
from ...dedup.derivations.operations.registry import NUMBERS
from ...dedup.derivations.operations.scaled import affine, codebook, group_scales, quantise
from ...dedup.derivations.operations.scaled.places import by_rows, by_tiles
from ...dedup.derivations.operations.values import Raw
from ...dedup.derivations.predict import Prediction
from ...dedup.derivations.recipe import (
    Axes,
    Grid,
    Operand,
    Piece,
    Recipe,
    Rows,
    pack_recipe,
    parse_recipe,
)
from ..support.machine import RESULTS, save_rows

_DTYPES = (*BY_NAME, *QUANTISED)
_FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
_GROUPED = ("Q4_0", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q6_K", "IQ4_XS", "MXFP4")
_INPUTS = tuple(bytes([i]) * 32 for i in range(4))
_MOST_OUTPUT_BYTES = 1 << 16


def main() -> None:
    """Runs what was asked for and keeps the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--more", action="store_true", help="keep the rows of other seeds")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    ends: Counter[str] = Counter()
    slowest = 0.0
    for packed, inputs, dtype in _recipes(rng, arguments.count):
        start = time.process_time()
        ends[_try(packed, inputs, dtype, rng)] += 1
        # The first of each kind compiles kernels.
        if ends.total() > arguments.count // 10:
            slowest = max(slowest, time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    kinds = ("evaluated", "not_parsed", "refused")
    row: dict[str, object] = {"recipes": arguments.count, "seed": arguments.seed}
    row |= {kind: ends[kind] for kind in kinds}
    row |= {"slowest_cpu_s": f"{slowest:.3f}", "peak_mib": peak}
    print(row)
    rows = _rows_before(row) if arguments.more else []
    save_rows(RESULTS / "attacks_recipes.csv", [*rows, row])


def _rows_before(row: Mapping[str, object]) -> list[Mapping[str, object]]:
    """Returns the rows of other seeds that are on record."""
    with (RESULTS / "attacks_recipes.csv").open() as file:
        known = list(csv.DictReader(file))
    return [{key: each[key] for key in row} for each in known if each["seed"] != str(row["seed"])]


def _recipes(
    rng: np.random.Generator, count: int
) -> Iterator[tuple[bytes, tuple[bytes, ...], str]]:
    for _ in range(count):
        fits = rng.random() < 0.6
        recipe, dtype = _fitting_recipe(rng) if fits else (_random_recipe(rng), _any_dtype(rng))
        packed = bytearray(pack_recipe(recipe))
        for _ in range(int(rng.integers(0, 2 if fits else 4))):
            _damage(packed, rng)
        yield bytes(packed), recipe.inputs, dtype


def _any_dtype(rng: np.random.Generator) -> str:
    return _pick(rng, _DTYPES)


def _fitting_recipe(rng: np.random.Generator) -> tuple[Recipe, str]:
    """What an honest writer might have written, but for its operands."""
    operand = _random_operand(rng, _pick(rng, ("F32", "BF16", "F16", "F64", "Q8_0", "Q4_K")))
    way = int(rng.integers(4))
    if way == 0:
        return Recipe(1, 1, (operand,), bytes([int(rng.integers(0, 4))])), _pick(rng, _FLOATS)
    if way == 1:
        return Recipe(10, 1, (operand,)), _pick(rng, _GROUPED)
    number, count, dtype, parameters = _HONEST[int(rng.integers(len(_HONEST)))]
    others = (_random_operand(rng, "F32") for _ in range(count - 1))
    return Recipe(number, 1, (operand, *others), parameters), dtype


# Of operations: the number, how many operands, the dtype of the output, parameters.
_HONEST = (
    (2, 2, "I8", quantise.Scheme(place=by_rows(64)).pack()),
    (2, 2, "F8_E4M3", quantise.Scheme(place=by_tiles(256, 64, 64)).pack()),
    (3, 1, "F32", group_scales.Grouping(64).pack()),
    (4, 1, "U32", affine.pack_affine(affine.CODES, 4, 64)),
    (5, 1, "U8", codebook.pack_codebook(codebook.NF4, 64)),
    (7, 2, "BF16", elementwise.pack_steps("BF16", elementwise.weighted_sum([0.5, 0.5]))),
    (8, 3, "BF16", low_rank.pack_low_rank(8, 64, 2.0, change="BF16")),
)


def _pick(rng: np.random.Generator, names: Sequence[str]) -> str:
    return names[int(rng.integers(len(names)))]


def _random_recipe(rng: np.random.Generator) -> Recipe:
    operands = tuple(_random_operand(rng) for _ in range(int(rng.integers(1, 4))))
    parameters = rng.bytes(int(rng.choice([0, 0, 1, 1, 2, 4, 8, 16])))
    number, version = NUMBERS[int(rng.integers(len(NUMBERS)))]
    return Recipe(number, version, operands, parameters)


def _random_operand(rng: np.random.Generator, dtype: str | None = None) -> Operand:
    dtype = dtype or _any_dtype(rng)
    kind = find_dtype(dtype)
    unit = kind.item_bytes * kind.group_bytes
    count = int(rng.integers(1, 3))
    pieces = tuple(
        Piece(_INPUTS[int(rng.integers(4))], unit * int(rng.integers(1, 4000)))
        for _ in range(count)
    )
    elements = sum(piece.raw_bytes for piece in pieces) // unit * kind.group_elements
    way = int(rng.integers(0, 6))
    arrangement = None
    if way == 1 and elements % 32 == 0:
        arrangement = Axes((elements // 32, 4, 8), (2, 0, 1))
    elif way == 2:
        first = int(rng.integers(0, 8))
        arrangement = Rows(max(1, elements // 8), ((first, int(rng.integers(0, 9))), (0, 1)))
    elif way == 3 and elements % 8 == 0:
        columns = ((0, int(rng.integers(1, 9))), (int(rng.integers(0, 8)), 1))
        arrangement = Grid(8, ((int(rng.integers(0, 8)), max(0, elements // 8 - 4)),), columns)
    ratio = (int(rng.choice([0, 1, 1, 1, 1, 2])), int(rng.choice([1, 1, 1, 1, 2, 32])))
    return Operand(dtype, pieces, int(rng.choice([0, 0, 0, 0, 1, 1 << 40])), ratio, arrangement)


def _damage(packed: bytearray, rng: np.random.Generator) -> None:
    if not packed:
        return
    at, way = int(rng.integers(len(packed))), int(rng.integers(3))
    if way == 0:
        packed[at] = int(rng.integers(256))
    elif way == 1:
        del packed[at]
    else:
        packed[at:at] = rng.bytes(int(rng.integers(1, 6)))


def _try(packed: bytes, inputs: tuple[bytes, ...], name: str, rng: np.random.Generator) -> str:
    try:
        recipe = parse_recipe(packed, inputs)
    except InvalidRecipe:
        return "not_parsed"
    dtype = find_dtype(name)
    unit = dtype.item_bytes * dtype.group_bytes
    size = unit * int(rng.integers(1, max(2, min(300, _MOST_OUTPUT_BYTES // unit))))
    seed = int(rng.integers(1 << 32))

    def load(digest: bytes, raw_bytes: int) -> Raw:
        if raw_bytes > 1 << 24:
            raise InvalidRecipe("an input that is not there")
        return np.random.default_rng([seed, digest[0]]).integers(0, 256, raw_bytes, np.uint8)

    try:
        prediction = Prediction(recipe, dtype.name, size, load)
        prediction.fill(0, np.empty(size, np.uint8))
        if prediction.can_refine:
            _refine(prediction, dtype, size)
    except InvalidRecipe:
        return "refused"
    except BaseException:
        print(f"recipe {packed.hex()} for {size} bytes of {dtype.name}, inputs {len(inputs)}")
        raise
    return "evaluated"


def _refine(prediction: Prediction, dtype: Dtype, size: int) -> None:
    quants = size // dtype.group_bytes * fields(dtype.name)[-1].count
    margins, out = np.empty(quants, np.uint8), np.empty(size, np.uint8)
    for known in (staged.NOTHING, staged.FACTORS, staged.SCALES):
        groups = out.copy()
        prediction.refine(0, known, groups, out, margins)


if __name__ == "__main__":
    main()
