"""Loading the codecs costs little: nothing is compiled, and Numba is not even there."""

import subprocess
import sys

LOADED = (
    "import sys, weightvault.codecs.pipeline; "
    "print([name for name in ('numba', 'llvmlite', 'zstandard') if name in sys.modules])"
)
RAW = (
    "import sys; from weightvault.codecs.pipeline import *; "
    "decode_tensor(encode_tensor(b'abc', 'U8', codec='raw')); print('numba' in sys.modules)"
)


def _run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    ).stdout


def test_importing_the_pipeline_loads_no_compiler():
    assert _run(LOADED).strip() == "[]"


def test_raw_frames_need_no_compiler():
    assert _run(RAW).strip() == "False"
