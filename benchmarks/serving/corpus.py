"""Pushes a corpus of real related models over HTTP, kills the server, pulls and compares.

    python -m weightvault.benchmarks.serving.corpus --corpus DIR [--vault URL]

DIR/minilm holds a base model, its fine-tunes and checkpoints. Each is pushed with its base
declared, the server is killed with SIGKILL and started anew, everything is pulled into empty
folders and compared by SHA-256. Result: a CSV of what each model took in benchmarks/results.
The vault is a temporary folder, unless --vault names an empty one, such as s3://bucket/prefix.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from ..demo import compare
from ..support.machine import RESULTS, save_rows
from ..support.servers import running_server, weightvault_command

OUT = RESULTS / "corpus.csv"

# folder, folder of its base
MODELS = (
    ("base", None),
    ("base-bf16", None),
    ("tuned-a", "base"),
    ("tuned-a-bf16", "base-bf16"),
    ("tuned-b-bf16", "base-bf16"),
    ("tuned-frozen-embeddings-bf16", "base-bf16"),
    ("checkpoint-120-bf16", "base-bf16"),
    ("checkpoint-180-bf16", "checkpoint-120-bf16"),
)


def main() -> None:
    """Runs the benchmark; raises SystemExit where a file comes back different."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True, help="folder with minilm in it")
    parser.add_argument("--vault", help="an empty vault to use instead of a temporary folder")
    arguments = parser.parse_args()
    models = arguments.corpus / "minilm"
    with tempfile.TemporaryDirectory(prefix="weightvault-corpus-") as temporary:
        root = Path(temporary)
        vault = arguments.vault or str(root / "vault")
        rows, report = push_pull(models, vault, root / "out")
    rows.append(
        {"model": "all", "logical": report["logical"], "stored": report["stored"], "resent": 0}
    )
    record(rows, vault.partition(":")[0] if arguments.vault else "directory")


def push_pull(models: Path, vault: str, out: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Returns a row for each model, and the vault's report."""
    with running_server(vault) as server:
        rows = [push_twice(server.url, models, name, base) for name, base in MODELS]
        server.process.kill()
        server.process.wait()
    with running_server(vault) as server:
        for name, _ in MODELS:
            run(server.url, "pull", f"minilm/{name}", out / name)
            compare(models / name, out / name)
        return rows, run(server.url, "report")


def push_twice(url: str, models: Path, name: str, base: str | None) -> dict[str, Any]:
    """Pushes a model, then again; returns what the first took and the second sent."""
    options = ["--base", f"minilm/{base}"] if base else []
    first, again = (run(url, "push", models / name, f"minilm/{name}", *options) for _ in range(2))
    return {
        "model": name,
        "logical": first["logical"],
        "stored": first["sent"],
        "resent": again["sent"],
    }


def run(url: str, *arguments: object) -> dict[str, Any]:
    """Runs one weightvault command against the server and returns its JSON."""
    command = [*weightvault_command(), "--json", "--vault", url, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return json.loads(done.stdout)


def record(rows: list[dict[str, Any]], store: str) -> None:
    """Writes the rows with their percentages and the machine, and prints them."""
    for row in rows:
        row |= {"percent": round(100 * row["stored"] / row["logical"], 1), "store": store}
        print("{model:32}{logical:12}{stored:12}{percent:7} %".format(**row))
    save_rows(OUT, rows)


if __name__ == "__main__":
    main()
