"""Attack: one tenant fills the disk."""

from __future__ import annotations

import numpy as np
from product import require

MIB = 1 << 20


def test_a_quota_holds(hub):
    """Where there is no way to set one, anybody may store what they like."""
    hub.vault.run("quota", "set", "greedy", "--stored", MIB)
    user = hub.server.hub(hub.vault.make_token("greedy", "write", "greedy"))
    require(user.create("greedy/model").is_success, "no repo")
    data = np.random.default_rng(1).bytes(3 * MIB)
    user.upload("greedy/model", data)
    made = user.commit("greedy/model", uploaded={"data.bin": data})
    require(made.status_code in (200, 413), f"{made.status_code}: {made.text}")
    assert made.status_code == 413, "3 MiB are committed where the operator allows one"
    assert user.commit("greedy/model", {"a.txt": b"what fits"}).is_success
