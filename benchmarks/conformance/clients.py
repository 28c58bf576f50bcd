"""Runs huggingface_hub's own tests, of its release on PyPI, against a served vault.

    python -m weightvault.benchmarks.conformance.clients [--version 2.4.0] [--only WORDS] [--save]

Unpacks the release in a temporary folder, where it also makes an environment with that client
(`--python` names one that has it, and pytest with its plugins asyncio, mock, rerunfailures,
timeout and vcr). Left out are tests of inference, which never ask a hub, those of buckets, which
are not offered, and those of the public hub's own repos, which no other can have. Prints what
passes and fails, the latter with a reason. Result: a CSV in benchmarks/results with a row for each
reason and each test that failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..support.machine import RESULTS, save_rows
from ..support.servers import running_server, weightvault_command
from .reasons import OPEN, Failure, find_reason

_SERVER = "https://hub-ci.huggingface.co"
_USERS = {"USER": "TOKEN", "OTHER_USER": "OTHER_TOKEN", "ENTERPRISE_USER": "ENTERPRISE_TOKEN"}
_NAMES = {"USER": "conformance", "OTHER_USER": "somebody", "ENTERPRISE_USER": "enterprise"}
_LEFT_OUT = (
    "test_bucket*",
    "test_copy_files*",
    "test_inference*",
    "test_webhooks_server*",
    "test_*fastai*",
    "test_*keras*",
    "test_tf_*",
    "test_generate_cli_reference*",
)
_PLUGINS = ("asyncio", "mock", "rerunfailures", "timeout", "vcr")
_MARKS = ("api", "transfer", "inference", "xet", "no_xet", "production", "deprecated", "git_lfs")
_TEST_SECONDS = 90


def main() -> None:
    """Runs the tests and writes how they ended."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--version", default="2.4.0", help="of huggingface_hub")
    parser.add_argument("--python", type=Path, help="an interpreter that has it, with pytest")
    parser.add_argument("--release", type=Path, help="the release, if it is here already")
    parser.add_argument("--only", default="", help="tests whose names match, as pytest's -k")
    parser.add_argument("--files", nargs="*", default=["."], help="files of tests")
    parser.add_argument("--without", nargs="*", default=[], help="files to leave out, as patterns")
    parser.add_argument("--minutes", type=float, default=60, help="the most it may take")
    parser.add_argument("--save", action="store_true", help="write the CSV")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="weightvault-conformance-") as temporary:
        root = Path(temporary)
        python = asked.python or make_environment(root / "venv", asked.version)
        release = asked.release or fetch_release(root / "release", asked.version)
        outcomes = run_tests(root, python, release, asked)
    rows = [{"client": f"huggingface_hub {asked.version}", **row} for row in judge(outcomes)]
    if asked.save:
        name = f"conformance_huggingface_hub_{asked.version}.csv"
        save_rows(RESULTS / name, rows)


def make_environment(folder: Path, version: str) -> Path:
    """Makes an environment with a client and pytest; returns its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    wanted = [
        f"huggingface_hub[oauth]=={version}",
        "hf_xet",
        "pytest",
        "numpy",
        "Jinja2",
        "fastapi",
    ]
    wanted += ["Pillow", "safetensors", "jedi", *(f"pytest-{name}" for name in _PLUGINS)]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    return python


def fetch_release(folder: Path, version: str) -> Path:
    """Has the source of a release from PyPI; returns its archive."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-binary", "huggingface_hub", "--dest", str(folder)]
    subprocess.run([*command, f"huggingface_hub=={version}"], check=True)
    (archive,) = folder.glob("huggingface_hub-*.tar.gz")
    return archive


def run_tests(
    root: Path, python: Path, release: Path, asked: argparse.Namespace
) -> list[dict[str, Any]]:
    """Runs the tests against a server of an empty vault; returns how each ended."""
    with tarfile.open(release) as archive:
        archive.extractall(root / "source", filter="data")
    (source,) = (root / "source").iterdir()
    tokens = {name: make_token(root / "vault", name) for name in _NAMES.values()}
    outcomes = root / "outcomes"
    outcomes.touch()
    with running_server(root / "vault", "--anonymous-reads", "public") as server:
        lead(source / "tests", server.url, tokens)
        command = [
            str(python),
            "-m",
            "pytest",
            "-c",
            "pytest.ini",
            "-q",
            "-p",
            "no:cacheprovider",
            "--continue-on-collection-errors",
        ]
        command += ["--tb=short", f"--timeout={_TEST_SECONDS}", "-m", "not production"]
        command += [f"--ignore-glob=tests/{name}" for name in (*_LEFT_OUT, *asked.without)]
        command += ["-k", asked.only] if asked.only else []
        command += [f"tests/{name}" for name in asked.files]
        environment = client_environment(root / "home", server.url)
        environment["HUB_OUTCOMES"] = str(outcomes)
        try:
            subprocess.run(command, cwd=source, env=environment, timeout=asked.minutes * 60)
        except subprocess.TimeoutExpired:
            print(f"stopped after {asked.minutes:g} minutes", file=sys.stderr)
    return [json.loads(line) for line in outcomes.read_text().splitlines()]


def make_token(vault: Path, name: str) -> str:
    """Makes a token for the repos of a namespace; returns its secret."""
    command = [*weightvault_command(), "--vault", str(vault), "--json", "token", "create"]
    command += ["--name", name, "--role", "write", "--namespace", name]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)["token"]


def client_environment(home: Path, url: str) -> dict[str, str]:
    """Environment variables of a client that has nothing from before."""
    home.mkdir(exist_ok=True)
    foreign = ("HF_", "HUGGING", "WEIGHTVAULT_", "PYTEST_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    proxies = {name: "" for name in clean if name.lower().endswith("_proxy")}
    said = {"HF_ENDPOINT": url, "HUB_URL": url, "HF_HUB_DISABLE_TELEMETRY": "1"}
    return {**clean, **proxies, "HOME": str(home), **said}


def lead(tests: Path, url: str, tokens: dict[str, str]) -> None:
    """Writes the server's address and tokens into tests, and our plugin beside them."""
    for path in tests.glob("*.py"):
        text = path.read_text()
        if _SERVER in text:
            path.write_text(text.replace(_SERVER, url))
    known = tests / "testing_constants.py"
    lines = [f"{name} = {_NAMES[name]!r}\n" for name in _USERS]
    lines += [f"{token} = {tokens[_NAMES[name]]!r}\n" for name, token in _USERS.items()]
    lines.append(f"FULL_NAME = {_NAMES['USER']!r}\n")
    known.write_text(known.read_text() + "".join(lines))
    shutil.copy(Path(__file__).with_name("pytest_hub.py"), tests / "conftest.py")
    (tests / "__init__.py").touch()
    marks = "".join(f"    {name}: as the tests have it\n" for name in _MARKS)
    options = f"[pytest]\naddopts = -Werror::FutureWarning\nmarkers =\n{marks}"
    (tests.parent / "pytest.ini").write_text(options)


def judge(outcomes: list[dict[str, Any]]) -> Iterator[dict[str, object]]:
    """Prints and yields how many passed, how many failed by reason, and each that failed."""
    # Of a test with several parts, the worst counts.
    ended: dict[str, dict[str, Any]] = {}
    for one in outcomes:
        if one["test"] not in ended or one["outcome"] == "failed":
            ended[one["test"]] = one
    counts = Counter(one["outcome"] for one in ended.values())
    failed = [
        (find_reason(Failure(name, one["said"], tuple(one["hosts"]))), name, one["said"])
        for name, one in ended.items()
        if one["outcome"] == "failed"
    ]
    reasons = Counter(reason for reason, _, _ in failed)
    for name, count in [*sorted(counts.items()), *reasons.most_common()]:
        print(f"{count:6} {name}")
        yield {"tests": count, "outcome": name}
    for reason, name, said in sorted(failed):
        if reason == OPEN:
            print(f"{name}\n    {said[:400]}")
        yield {"tests": 1, "outcome": "failed", "reason": reason, "test": name}


if __name__ == "__main__":
    main()
