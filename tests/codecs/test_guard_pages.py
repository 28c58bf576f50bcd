"""Vector loops, which bounds checks do not see, at the edge of mapped memory."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="protects pages as Linux does")
def test_no_path_touches_memory_outside_its_buffers():
    probe = Path(__file__).parent / "guard_page_probe.py"
    done = subprocess.run([sys.executable, probe], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert done.stdout.startswith(b"sound portable")
