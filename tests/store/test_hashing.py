"""Hashes of much data, in processes that were forked."""

from __future__ import annotations

import os
import signal

from blake3 import blake3

from weightvault.store.hashing import many_threads

_DATA = bytes(4 << 20)


def test_a_child_hashes_though_its_parent_did():
    wanted = blake3(_DATA, max_threads=many_threads()).digest()
    child = os.fork()
    if not child:
        # A child that waits for threads it has not got ends by the signal.
        signal.alarm(30)
        same = blake3(_DATA, max_threads=many_threads()).digest() == wanted
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
