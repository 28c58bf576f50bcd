"""Writes a golden store: what the weightvault of today makes of models that exercise its formats.

    python tests/dedup/make_golden_store.py tests/dedup/golden_stores/v0.1

Run once for each release, before it; never again for one that is out. The tests read every one of
them for ever (test_golden_stores.py). What the files must be is in `files.json` beside the objects.
"""

import json
import shutil
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from models import make_weights, read_folder, safetensors_bytes, tune, write_model
from vaults import open_local

from weightvault.dedup.maintenance.gc import Collector
from weightvault.dedup.model.journal_entries import RefChange, Visibility
from weightvault.dedup.transfer.push import push

SHAPES = {"w": (48, 64), "b": (64,)}
WORDS = b"a tokenizer's vocabulary, again and again, "


def small_tensors() -> bytes:
    """A file of tensors that are stored in bundles."""
    rng = np.random.default_rng(3)
    rows = rng.normal(0, 0.1, (40, 8)).astype(np.float32)
    return safetensors_bytes({f"t{i}": ("F32", (8,), row.tobytes()) for i, row in enumerate(rows)})


def main(target: Path) -> None:
    """Makes the store and moves its objects to `target`."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        vault = open_local(root / "vault")
        base, tuned = make_weights(1, SHAPES), tune(make_weights(1, SHAPES), 2)
        push(vault, write_model(root / "base", base, "# Base\n"), "org/base")
        push(vault, write_model(root / "tuned", tuned), "org/tuned", base="org/base")
        extra = write_model(root / "again", make_weights(5, SHAPES))
        (extra / "small.safetensors").write_bytes(small_tensors())
        (extra / "vocabulary.txt").write_bytes(WORDS * 40)
        (extra / "empty.bin").write_bytes(b"")
        first = vault.resolve("org/tuned").commit
        last = push(vault, extra, "org/tuned").commit
        push(vault, write_model(root / "gone", make_weights(7, SHAPES)), "org/gone")
        vault.delete_repo("org/gone")
        vault.record(RefChange("org/tuned", "tag", "v1", first.id, last.created + 1, "the first"))
        vault.record(RefChange("org/tuned", "branch", "dev", first.id, last.created + 2))
        links = tuned
        for number in range(4):
            links = tune(links, 10 + number)
            push(vault, write_model(root / "link", links), "org/tuned", "run")
        vault.record(Visibility("org/base", True, last.created + 3))
        vault.optimise()
        Collector(vault).run()
        vault.close()
        held = {"org/base@main": "base", "org/tuned@main": "again", "org/tuned@dev": "tuned"}
        held["org/tuned@run"] = "link"
        files = {
            revision: {p: sha256(data).hexdigest() for p, data in read_folder(root / name).items()}
            for revision, name in held.items()
        }
        target.mkdir(parents=True)
        shutil.copytree(root / "vault/objects", target / "objects")
        shutil.rmtree(target / "objects/tmp", ignore_errors=True)
        (target / "files.json").write_text(json.dumps(files, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
