"""Lets schemathesis try the documented API, with and without a token.

    python -m weightvault.benchmarks.attacks.schema --minutes 15 --schemathesis PATH

schemathesis makes requests of /openapi.json, good and bad ones: half of the time for any repo, half
for one that is there. No answer may be a 5xx, have a status that is not documented, or another type
or shape than documented. It is no dependency of ours: it is run from an environment of its own
(`pip install schemathesis`). What it tried goes into results.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from ..support.machine import RESULTS, save_rows
from .target import Target, running_target

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


_KNOWN = """
[parameters]
"path.namespace" = "acme"
"path.name" = "one"
"path.path" = "README.md"
"path.tensor" = "layer.1.weight"
"""
"""Settings of schemathesis with which paths lead to a repo that is there."""


def run_schemathesis(
    command: str, target: Target, role: str, minutes: float, seed: int, folder: Path, known: bool
) -> tuple[int, str]:
    """Runs schemathesis as `role`; returns its exit code and what it said."""
    settings = folder / "schemathesis.toml"
    settings.write_text(_KNOWN if known else "")
    arguments = [
        *(command, "--config-file", str(settings)),
        *("run", f"{target.url}/openapi.json", "--checks", ",".join(CHECKS)),
        *("--max-time", str(max(1, int(60 * minutes))), "--seed", str(seed)),
        # In two threads its making of requests fails now and then, within CPython's `ast`.
        *("--continue-on-failure", "--suppress-health-check", "all", "--workers", "1"),
        *("--report", "ndjson", "--report-ndjson-path", str(folder / "report.ndjson")),
        *("--request-timeout", "60"),
        # Whoever revokes the token in use tries nothing more.
        *("--exclude-path", "/v1/tokens/{token}"),
        # Packs are called by their hash, and what is there shall stay.
        *(("--exclude-path", "/v1/packs/{name}", "--exclude-method", "DELETE") if known else ()),
    ]
    for name, value in target.headers(role).items():
        arguments += ["--header", f"{name}: {value}"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def count_answers(report: Path) -> dict[str, int]:
    """Returns how many answers of each status a report of schemathesis tells of."""
    counts: dict[str, int] = {}
    with report.open() as lines:
        for line in lines:
            for status in _statuses(json.loads(line)):
                counts[str(status)] = counts.get(str(status), 0) + 1
    return counts


def _statuses(value: object) -> list[int]:
    if isinstance(value, dict):
        found = [value["status_code"]] if isinstance(value.get("status_code"), int) else []
        return found + [s for v in value.values() for s in _statuses(v)]
    return [s for v in value for s in _statuses(v)] if isinstance(value, list) else []


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description="Lets schemathesis try the documented API.")
    parser.add_argument("--minutes", type=float, default=15, help="for each role")
    parser.add_argument("--schemathesis", default="schemathesis", help="its command")
    parser.add_argument("--roles", nargs="+", default=["none", "namespaced", "admin"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "attacks_schema.csv")
    asked = parser.parse_args()
    rows, failed = [], 0
    for role, known in itertools.product(asked.roles, (False, True)):
        with tempfile.TemporaryDirectory() as root, running_target(Path(root)) as target:
            code, said = run_schemathesis(
                *(asked.schemathesis, target, role, asked.minutes / 2, asked.seed),
                *(Path(root), known),
            )
            print(said)
            failed += code != 0
            counts = count_answers(Path(root, "report.ndjson"))
            row = {"role": role, "known_repo": known, "minutes": asked.minutes / 2, "exit": code}
            rows.append(row | {"answers": sum(counts.values())} | dict(sorted(counts.items())))
    save_rows(asked.out, rows)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
