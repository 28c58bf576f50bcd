"""Nothing that a server, a repo or a file says reaches the terminal as it is."""

from __future__ import annotations

import io
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from command import run
from hostile_server import Liar, json_answer, lying, rename_files
from hypothesis import given
from hypothesis import strategies as st
from models import make_weights, safetensors_bytes, write_model
from vaults import open_local

from weightvault.api.progress import BarProgress, LineProgress
from weightvault.api.terminal import show, show_json, show_lines
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.transfer.push import push

TITLE = "\x1b]0;owned\x07"
EVIL = (
    f"a{TITLE}\x1b[2J\x9b31m\u202egnp.exe\u2066\u200b\u00ad\x7f\x08\r\nerror: forged[red]\U000e0041"
)


def is_unsafe(character: str) -> bool:
    kind = unicodedata.category(character)
    return character not in "\n\t" and kind in ("Cc", "Cf", "Cs", "Zl", "Zp")


def assert_safe(text: str) -> None:
    assert [c for c in text if is_unsafe(c)] == []
    assert "\nerror: forged" not in text


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[LocalVault]:
    opened = open_local(tmp_path / "vault")
    yield opened
    opened.close()


@pytest.fixture
def liar(vault: LocalVault, tmp_path: Path) -> Liar:
    """An honest vault whose server has names of its own for everything."""
    made = push(vault, write_model(tmp_path / "model", make_weights(1), "# A model\n"), "org/m")
    found = Liar(vault, vault.resolve("org/m").manifest, made.commit)
    info, report = asdict(vault.describe_repo("org/m")), asdict(vault.report())
    (family,) = map(asdict, vault.list_families())
    summary = {"name": EVIL, "branches": [EVIL], "files": 1, "size": 1, "updated": 0}
    for part in (info["commit"], info, family, family["members"][0]):
        part.update({key: EVIL for key, value in part.items() if isinstance(value, str)})
    info["branches"] = {EVIL: EVIL}
    info["files"][0]["path"] = info["files"][0]["blake3"] = EVIL
    report["breakdowns"][0]["rows"][0]["name"] = EVIL
    removal = asdict(vault.predict_removal(["org/m"]))
    removal["subjects"] = [EVIL]
    removal["kept"] = [{"why": EVIL, "bytes": 1, "names": [EVIL]}]
    checked = {**asdict(vault.check()), "problems": [EVIL]}
    documents = {
        "/v1/repos": [summary],
        "/v1/repos/org/m": info,
        "/v1/families": [family],
        "/v1/report": report,
        "/v1/what-if/rm": removal,
    }
    for path, document in documents.items():
        found.answers["GET", path] = lambda d=document: json_answer(d)
    lines = [{"progress": {"task": EVIL, "done": 1, "total": 2, "unit": EVIL}}, {"result": checked}]
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    found.answers["GET", "/v1/check"] = lambda: (200, {}, iter([body]))
    return found


VERBS = {
    "ls": ["ls"],
    "info": ["info", "org/m"],
    "families": ["families"],
    "report": ["report"],
    "csv": ["report", "--format", "csv"],
    "html": ["report", "--format", "html"],
    "what-if": ["report", "--what-if", "rm", "org/m"],
    "check": ["check"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_names_of_a_server_are_shown_escaped(verb: str, liar: Liar):
    with lying(liar) as url:
        for options in ([], ["--json"]):
            if verb in ("csv", "html") and options:
                continue
            done = run("--vault", url, *options, *VERBS[verb])
            assert done.exit_code in (0, 1), done.stderr
            assert "owned" in done.stdout
            # Documents have lines of their own, in quotes.
            forged = "error: forged" if verb in ("csv", "html") else ""
            assert_safe((done.stdout + done.stderr).replace(forged, ""))
            if options:
                assert EVIL in str_values(json.loads(done.stdout))


def str_values(document: object) -> list[str]:
    if isinstance(document, dict):
        return [s for pair in document.items() for each in pair for s in str_values(each)]
    if isinstance(document, list):
        return [s for each in document for s in str_values(each)]
    return [document] if isinstance(document, str) else []


def test_progress_of_a_server_is_shown_escaped(liar: Liar):
    with lying(liar) as url:
        done = run("--vault", url, "check")
    assert "owned" in done.stderr
    assert_safe(done.stderr)


@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.parametrize("code", ["invalid_name", EVIL])
def test_errors_of_a_server_are_shown_escaped(code: str, options: list[str], liar: Liar):
    body = {"error": {"code": code, "message": EVIL, "hint": EVIL}}
    liar.answers["GET", "/v1/repos"] = lambda: json_answer(body, 400)
    with lying(liar) as url:
        done = run("--vault", url, *options, "ls")
    assert done.exit_code != 0
    assert "owned" in done.stderr
    assert_safe(done.stdout + done.stderr)


def test_tracebacks_are_shown_escaped(liar: Liar, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WEIGHTVAULT_DEBUG", "1")
    body = {"error": {"code": "x", "message": EVIL, "hint": EVIL}}
    liar.answers["GET", "/v1/repos"] = lambda: json_answer(body, 400)
    with lying(liar) as url:
        done = run("--vault", url, "ls")
    assert "Traceback" in done.stderr
    assert_safe(done.stderr)


def test_a_commit_of_a_server_is_shown_escaped(liar: Liar, tmp_path: Path):
    liar.commit = replace(liar.commit, branch=EVIL, title=EVIL, author=EVIL)
    with lying(liar) as url:
        for options in ([], ["--json"]):
            done = run("--vault", url, *options, "pull", "org/m", tmp_path / "dest")
            assert done.exit_code == 0, done.stderr
            assert_safe(done.stdout + done.stderr)
    assert (tmp_path / "dest/README.md").read_text() == "# A model\n"


def test_refused_files_are_shown_escaped(liar: Liar, tmp_path: Path):
    path = "a\x9b2J\u202eb\u200b"
    liar.manifest = rename_files(liar.manifest, {"README.md": path})
    with lying(liar) as url:
        done = run("--vault", url, "pull", "org/m", tmp_path / "dest")
        assert done.exit_code == 4
        assert_safe(done.stderr)
        done = run("--vault", url, "pull", "org/m", tmp_path / "dest", "--skip-refused")
    assert done.exit_code == 0
    assert r"a\x9b2J\u202eb\u200b" in done.stdout
    assert_safe(done.stdout + done.stderr)


def test_names_of_tensors_are_shown_escaped(tmp_path: Path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors_bytes({EVIL: ("F32", (1024,), bytes(4096))}))
    for options in ([], ["--json"]):
        done = run(*options, "inspect", path)
        assert done.exit_code == 0
        assert "owned" in done.stdout
        assert_safe(done.stdout + done.stderr)


def test_arguments_are_shown_escaped(tmp_path: Path):
    for args in ([EVIL], ["pull", EVIL, EVIL], ["push", EVIL, "org/m"], ["--vault", EVIL, "ls"]):
        done = run(*args)
        assert done.exit_code != 0
        assert_safe(done.stderr)


class Terminal(io.StringIO):
    """A stream that takes itself for a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("unit", [EVIL, "{task.fields}", "{", "[/red]", None])
def test_bars_show_tasks_escaped(unit: str | None):
    for kind in (BarProgress, LineProgress):
        stream = Terminal()
        progress = kind(stream)
        progress.begin(f"[link=http://x]{EVIL}[/nothing]", 10, unit)
        progress.advance(10)
        progress.end()
        text = stream.getvalue()
        # What rich draws itself: colours, the cursor, lines.
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", text)
        assert "owned" in text
        assert TITLE not in text
        assert_safe(text)


@given(st.text())
def test_no_text_comes_through_unsafe(text: str):
    assert_safe(show_lines(text).replace("\nerror: forged", ""))
    assert "\n" not in show(text)
    document = json.dumps(text, ensure_ascii=False)
    assert_safe(show_json(document))
    assert json.loads(show_json(document)) == text


@given(
    st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"], max_codepoint=0x2FF))
)
def test_plain_text_stays_as_it_is(text: str):
    assert show(text.replace("\u00ad", "")) == text.replace("\u00ad", "")
