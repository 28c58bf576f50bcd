"""Quantised tensors whose fields look like those of real ones, and golden frames of some.

``python tests/support/quantised_samples.py`` writes the golden frames that are missing. One that is
there is never written again; its header holds the digest of what it decodes to.
"""

from pathlib import Path

import numpy as np

from weightvault.codecs.dtypes import QUANTISED
from weightvault.codecs.pipeline import encode_tensor
from weightvault.codecs.quantised.fields import scatter_kernel
from weightvault.codecs.quantised.groups import find_layout, list_places

GOLDEN = Path(__file__).parents[1] / "codecs" / "golden_fields"
NAMES = ("Q2_K", "Q3_K", "Q4_K", "Q5_0", "Q6_K", "Q8_0", "IQ2_XXS", "IQ4_XS")

PREFIXED = ("Q4_K", "Q6_K")
"""Those that have a golden frame of level fast, too."""


def make_groups(name: str, count: int = 40, seed: int = 0) -> bytes:
    """`count` groups of a dtype whose fields are bell-shaped, each around another value."""
    rng = np.random.default_rng(seed)
    middles = np.linspace(0.1, 0.9, len(find_layout(name).planes))
    groups = np.zeros((count, QUANTISED[name].group_bytes), np.uint8)
    for number, plane in enumerate(find_layout(name).planes):
        largest = [(1 << sum(width for _, _, width in symbol)) - 1 for symbol in plane]
        symbols = rng.binomial(largest, middles[number], (count, len(plane))).astype(np.uint8)
        scatter_kernel(symbols, list_places(name, number), groups)
    return groups.tobytes()


def main() -> None:
    """Writes the frames that are not there yet."""
    wanted = [(name, "default", "") for name in NAMES]
    wanted += [(name, "fast", "-prefix") for name in PREFIXED]
    for name, level, suffix in wanted:
        path = GOLDEN / f"v1-{name.lower()}{suffix}.frame"
        if not path.exists():
            groups = make_groups(name, max(80, 9000 // QUANTISED[name].group_bytes))
            path.write_bytes(encode_tensor(groups + b"tail", name, level=level))


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    main()
