"""Attacks another version of weightvault in the same ways as this one, and tells what worked.

    python -m weightvault.benchmarks.attacks.against --product OLD/.venv/bin/python --name COMMIT

The attacks are tests/security/black_box, which know a version by its command, its server and its
files alone. OLD is a checkout with an environment that it is installed in:

    git worktree add OLD COMMIT && python3 -m venv OLD/.venv && OLD/.venv/bin/pip install OLD

A test that fails by an assertion says that the attack works; by anything else, that it could not be
tried.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from ..support.machine import RESULTS, save_rows

_ROOT = Path(__file__).parents[2]
_ATTACKS = "tests/security/black_box"
_MOST_CHARACTERS = 160
# Results are the same wherever the temporary folders lay.
_FOLDERS = re.compile(re.escape(tempfile.gettempdir()) + r"/(?:[^\s/,'\"]+/)*")


def attack(python: Path) -> dict[str, tuple[str, str]]:
    """Attacks the version in the environment of an interpreter; returns by test what came of it,
    and what the test says."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", _ATTACKS]
        # Absolute, and not resolved: the interpreter of an environment is a link.
        chosen = {**os.environ, "WEIGHTVAULT_ATTACK_PYTHON": str(Path.cwd() / python)}
        subprocess.run([*command, f"--junitxml={report}"], cwd=_ROOT, env=chosen, check=False)
        cases = ElementTree.parse(report).getroot().iter("testcase")
        return {f"{_file(case)}::{case.get('name')}": _outcome(case) for case in cases}


def _file(case: ElementTree.Element) -> str:
    return (case.get("classname") or "").rpartition(".")[2]


def _outcome(case: ElementTree.Element) -> tuple[str, str]:
    found = case.find("failure")
    if found is None:
        found = case.find("error")
    if found is None:
        return ("skipped" if case.find("skipped") is not None else "withstood"), ""
    message = found.get("message") or ""
    works = found.tag == "failure" and message.startswith(("AssertionError", "Failed", "assert "))
    said = message.removeprefix("AssertionError: ").removeprefix("Failed: ").partition("\n")[0]
    return ("attack works" if works else "not tried"), _FOLDERS.sub("…/", said)[:_MOST_CHARACTERS]


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--product", type=Path, required=True, help="interpreter of that version")
    parser.add_argument("--name", default="another", help="what to call that version")
    parser.add_argument("--out", type=Path, default=RESULTS / "attacks_black_box.csv")
    asked = parser.parse_args()
    here, there = attack(Path(sys.executable)), attack(asked.product)
    rows: list[dict[str, object]] = [
        {"attack": name, "here": here[name][0], asked.name: outcome, "said": said}
        for name, (outcome, said) in there.items()
    ]
    save_rows(asked.out, rows)
    for place in ("here", asked.name):
        print(f"{place}: {sum(row[place] == 'attack works' for row in rows)} of {len(rows)} work")
    sys.exit(0 if all(row["here"] == "withstood" for row in rows) else 1)


if __name__ == "__main__":
    main()
