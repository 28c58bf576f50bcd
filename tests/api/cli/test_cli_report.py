"""The verb report: what-ifs, comparisons, prices; on a folder and through a server."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from models import make_weights, tune, write_model


@pytest.fixture(params=["directory", "http"])
def vault(request: pytest.FixtureRequest, run, tmp_path: Path) -> str:
    """The address of a vault with a base, a fine-tune and another model."""
    folder = str(tmp_path / "vault")
    url = folder if request.param == "directory" else request.getfixturevalue("live")
    base, other = make_weights(1), make_weights(7)
    for name, weights in (("base", base), ("tuned", tune(base, 2)), ("other", other)):
        run("--vault", url, "push", write_model(tmp_path / name, weights), f"org/{name}")
    if request.param == "http":
        # As the server does every few seconds: the object counts, and is not to come in between.
        request.getfixturevalue("local").note_heads()
    return url


def document(result) -> dict:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_what_a_deletion_would_free(run, vault: str) -> None:
    before = document(run("--vault", vault, "report", "--json"))
    ask = ("--vault", vault, "report", "--what-if", "rm", "org/other", "--price", "10")
    found = document(run(*ask, "--json"))
    assert found["exact"]
    assert found["subjects"] == ["org/other"]
    assert 0 < found["freed"] < before["stored"]
    assert found["costs"]["saved"] == pytest.approx(found["freed"] / 2**30 * 10)
    text = run(*ask).stdout
    assert f"({found['freed']} bytes)" in text
    assert "other repos have the same chunks (org/base, org/tuned)" in text
    assert document(run("--vault", vault, "report", "--json"))["stored"] == before["stored"]
    base = run("--vault", vault, "report", "--what-if", "rm", "org/base").stdout
    assert "deltas in other repos need them as bases (org/tuned)" in base
    assert run("--vault", vault, "report", "--what-if", "rm", "org/none").exit_code == 3


def test_what_optimising_would_free(run, vault: str) -> None:
    ask = ("--vault", vault, "report", "--what-if", "optimise")
    found = document(run(*ask, "--json"))
    assert (found["exact"], found["subjects"]) == (False, [])
    assert "frees about" in run(*ask).stdout


def test_what_another_class_would_cost(run, vault: str) -> None:
    ask = ("--vault", vault, "report", "--what-if", "storage-class", "s3-glacier-instant")
    found = document(run(*ask, "--json"))
    assert (found["freed"], found["from"]["class"]) == (0, "s3-standard")
    assert found["saved"] == pytest.approx(found["from"]["cost"] - found["to"]["cost"])
    text = run(*ask).stdout
    assert "within 90 days" in text
    # Objects this small cost more there.
    assert "costs" in text
    assert run(*ask[:-1], "s3-imaginary").exit_code == 4


def test_comparing(run, vault: str) -> None:
    found = document(run("--vault", vault, "report", "--compare", "--json"))
    assert found["files"] == found["of_files"] == 4
    methods = {method["name"]: method["bytes"] for method in found["methods"]}
    assert methods["weightvault"] < methods["standalone coding"] < methods["plain files"]
    ask = ("--vault", vault, "report", "--compare", "--sample", "50%", "--seed", "1")
    text = run(*ask).stdout
    assert "a sample, 50 % of them, seed 1" in text
    assert "content-defined chunks" in text


def test_a_table_of_ones_own(run, vault: str, tmp_path: Path, monkeypatch) -> None:
    table = tmp_path / "prices.toml"
    table.write_text(
        'default = "ours"\n[classes.ours]\ntitle = "Our disks"\ncurrency = "EUR"\n'
        'date = 2026-01-02\nsource = "an invoice"\nstorage = [{ price = 1000.0 }]\n'
    )
    named = document(run("--vault", vault, "report", "--prices", table, "--json"))
    assert named["costs"]["prices"]["source"] == "an invoice"
    assert named["costs"]["stored"]["total"] == pytest.approx(named["stored"] / 2**30 * 1000)
    monkeypatch.setenv("WEIGHTVAULT_PRICES", str(table))
    assert "EUR cost" in run("--vault", vault, "report").stdout
    table.write_text("default =")
    assert run("--vault", vault, "report").exit_code == 4


def test_breakdowns_and_their_largest_rows(run, vault: str) -> None:
    ask = ("--vault", vault, "report", "--by", "repo", "--by", "codec", "--top", "1")
    found = document(run(*ask, "--json"))
    repo, codec = found["breakdowns"]
    assert (repo["by"], repo["count"], codec["by"]) == ("repo", 3, "codec")
    assert repo["rows"][0]["billed"] + repo["others"]["billed"] == found["frames"]
    text = run(*ask).stdout
    assert "(2 others)" in text
    rows = list(csv.DictReader(io.StringIO(run(*ask, "--format", "csv").stdout)))
    assert {row["scope"] for row in rows} == {"vault", "repo", "codec", "day"}
    pulled = document(run("--vault", vault, "report", "--pulls", "1000", "--json"))
    assert pulled["costs"]["stored"]["requests"] > found["costs"]["stored"]["requests"]


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["--what-if", "rm"], "repos"),
        (["--what-if", "optimise", "org/base"], "no names"),
        (["--what-if", "storage-class"], "one class"),
        (["--what-if", "fly"], "fly"),
        (["--what-if", "optimise", "--compare"], "ask one"),
        (["--compare", "--format", "csv"], "json"),
        (["--sample", "5%"], "--compare"),
        (["--compare", "--sample", "0"], "share"),
        (["org/base"], "org/base"),
        (["--by", "colour"], "colour"),
        (["--top", "0"], "0"),
    ],
)
def test_wrong_questions(run, tmp_path: Path, args: list[str], word: str) -> None:
    result = run("--vault", tmp_path / "vault", "report", *args)
    assert result.exit_code == 2
    assert word in result.stderr


def test_a_day_that_is_none(run, tmp_path: Path) -> None:
    run("--vault", tmp_path / "v", "push", write_model(tmp_path / "m", make_weights(1)), "org/m")
    result = run("--vault", tmp_path / "v", "report", "--since", "yesterday")
    assert result.exit_code == 4
    assert "2026-12-31" in result.stderr
