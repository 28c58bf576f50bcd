"""Measures what the first process after installation pays for compiling, and every later one for
starting.

    python -m weightvault.benchmarks.codecs.first_use [--save]

Each process codes tensors of several dtypes at two levels, with and without a base, so that all
kernels are needed. Result: results/first_use.csv.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile

from ..support.machine import RESULTS, save_rows

OUT = RESULTS / "first_use.csv"

_PROBE = """
import json, time
start = time.perf_counter()
import numpy as np
from weightvault.codecs.pipeline import decode_tensor, encode_tensor
values = np.random.default_rng(1).normal(0, 0.02, 1 << 17)
bf16 = (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
decode_tensor(encode_tensor(bf16, "BF16"))
first = time.perf_counter() - start
wide = {"F16": values.astype(np.float16), "F32": values.astype(np.float32), "F64": values}
packed = {"I32": np.round(values * 99).astype(np.int32), "U8": bf16.view(np.uint8)}
for dtype, tensor in {"BF16": bf16, **wide, **packed}.items():
    base = np.roll(tensor, 1)
    for level in ("default", "max"):
        pruned = np.where(np.arange(tensor.size) % 2, tensor, 0).astype(tensor.dtype)
        for sparse in (tensor, pruned):
            decode_tensor(encode_tensor(sparse, dtype, level=level))
            decode_tensor(encode_tensor(sparse, dtype, level=level, base=base), base=base)
print(json.dumps([first, time.perf_counter() - start, time.process_time()]))
"""


def probe(cache: str) -> dict[str, float]:
    """Runs one process with Numba's cache in the folder ``cache``; returns its seconds."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
    done = subprocess.run(
        [sys.executable, "-c", _PROBE], env=environment, capture_output=True, check=True, text=True
    )
    first, whole, processor = json.loads(done.stdout)
    return {
        "first_tensor_seconds": round(first, 2),
        "every_kernel_seconds": round(whole, 2),
        "processor_seconds": round(processor, 2),
    }


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--save", action="store_true", help=f"write {OUT.name}")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="weightvault-cache-") as cache:
        rows = [{"process": name, **probe(cache)} for name in ("first", "second", "third")]
    for row in rows:
        print(row)
    if arguments.save:
        save_rows(OUT, rows)


if __name__ == "__main__":
    main()
