"""One number for each word of reports and bills, wherever it is shown; and what has to add up."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from live_server import serving
from models import make_weights, tune, write_model
from vaults import open_local

from weightvault.api.client.http_vault import HttpVault
from weightvault.api.formatting import format_bytes
from weightvault.api.requests.tokens import create_token
from weightvault.api.server.app import create_app
from weightvault.api.web.figures import DASHBOARD, draw_all
from weightvault.dedup.errors import InvalidInput
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.background_encode import encode_some
from weightvault.dedup.model.bills import BillLine, MonthBill, split_evenly
from weightvault.dedup.model.report import Query
from weightvault.dedup.model.words import WORDS
from weightvault.dedup.reports.bills import forecast, price_bill, total_cost
from weightvault.dedup.reports.growth import day_of
from weightvault.dedup.reports.prices import load_prices
from weightvault.dedup.transfer.push import push
from weightvault.store.catalogue.reports.statistics import DayRow, record_day

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalVault]:
    """Three namespaces that share bases and files, and something that nobody needs."""
    folder = tmp_path_factory.mktemp("words")
    made = open_local(folder / "vault")
    shapes = {f"l{k}": (96, 64) for k in range(3)}
    for seed, space in enumerate(("acme", "lab", "solo")):
        weights = make_weights(seed, shapes)
        push(made, write_model(folder / f"{space}-b", weights), f"{space}/base")
        tuned = write_model(folder / f"{space}-t", tune(weights, seed + 5), f"# {space}\n")
        push(made, tuned, f"{'lab' if space == 'acme' else space}/tune-{seed}")
    push(made, write_model(folder / "gone", make_weights(9)), "acme/gone")
    made.delete_repo("acme/gone")
    encode_all(made)
    # Of the hour, so that no report writes another one.
    made.report(Query(("namespace", "repo")))
    yield made
    made.close()


def encode_all(vault: LocalVault) -> None:
    """Does what a server's background encoder would do between two requests, before any of them."""
    while encode_some(vault):
        pass


@pytest.fixture(scope="module")
def url(vault: LocalVault) -> Iterator[str]:
    with serving(create_app(vault)) as address:
        yield address


def numbers(page: str) -> dict[str, str]:
    """What the tiles of the dashboard say, by their words."""
    found = re.findall(r"<dt[^>]*>([^<]+)</dt><dd>([^<]+)</dd>", page)
    return {word.lower().removesuffix(" a month"): value for word, value in found}


def lines_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_one_number_per_word(vault: LocalVault, url: str, run: Callable[..., object]):
    """Page, report, `info`, API and CSV, of the vault, its namespaces and its repos."""
    web = httpx.Client(base_url=url)
    where = vault.scratch

    def asked(*words: object) -> str:
        done = run("--vault", where, *words)
        assert done.exit_code == 0, done.output  # type: ignore[attr-defined]
        return done.stdout  # type: ignore[attr-defined]

    # The first command notes how far the journal goes, which is stored, too.
    asked("report")
    by = ("--by", "namespace", "--by", "repo")
    report = json.loads(asked("report", *by, "--json"))
    page, csv_page = web.get("/-/storage").text, web.get("/-/storage/report.csv").text
    api = web.get("/v1/report", params={"by": ["namespace", "repo"]}).json()
    whole = {row["metric"]: row["value"] for row in lines_of(csv_page) if row["scope"] == "vault"}
    told = {
        r["metric"]: r["value"]
        for r in lines_of(asked("report", "--format", "csv"))
        if r["scope"] == "vault"
    }
    for word in ("logical", "unique", "frames", "metadata", "garbage", "stored"):
        assert report[word] == api[word] == int(whole[word]) == int(told[word]), word
        assert numbers(page)[word] == format_bytes(report[word]), word
    assert report["costs"]["stored"]["total"] == pytest.approx(float(whole["cost"]))
    assert report["costs"]["saved"] == pytest.approx(float(whole["saved"]))

    bill = json.loads(asked("bill", "--json"))["bills"][0]
    sent = web.get("/v1/bills").json()
    assert bill["stored"] == sent["stored"] == report["stored"]
    assert (
        bill["cost"] == sent["cost"] == pytest.approx(report["costs"]["stored"]["total"], abs=1e-6)
    )
    as_csv = {row["name"]: row for row in lines_of(asked("bill", "--csv"))}
    downloaded = {row["name"]: row for row in lines_of(web.get("/-/storage/bill.csv").text)}
    assert as_csv == downloaded
    rows = {row["name"]: row for b in api["breakdowns"] for row in b["rows"]}
    metrics = {(r["name"], r["metric"]): r["value"] for r in lines_of(csv_page)}
    for line, again in zip(bill["lines"], sent["lines"], strict=True):
        row, name = rows[line["name"]], line["name"]
        for word in ("logical", "unique", "own", "share", "billed"):
            known = row[{"own": "exclusive", "share": "attributed"}.get(word, word)]
            assert line[word] == again[word] == known == int(as_csv[name][word]), word
            assert int(metrics[name, word]) == known, word
        assert line["billed"] + line["overhead"] == line["charged"] == again["charged"]
        assert line["cost"] == again["cost"]
        assert float(metrics[name, "cost"]) == pytest.approx(line["cost"], abs=2e-6)
    for repo in ("lab/base", "lab/tune-0"):
        info, row = json.loads(asked("info", repo, "--json"))["cost"], rows[repo]
        shown = asked("info", repo)
        for word, key in (("logical", "logical"), ("unique", "unique"), ("own", "exclusive")):
            assert info[key] == row[key], (repo, word)
            assert re.search(rf"{word} +{re.escape(format_bytes(row[key]))}", shown), (repo, word)
        assert info["shared"] == row["shared"]
    drawn = {figure.name: figure for figure in draw_all(vault.report(DASHBOARD))}
    for cells in (*drawn["namespaces"].table, *drawn["repos"].table):
        shown = dict(zip(drawn["repos"].head[1:], cells[1:], strict=True))
        assert shown["billed"] == format_bytes(rows[cells[0]]["billed"])
    web.close()


def test_bills_add_up(vault: LocalVault):
    for by in ("namespace", "repo"):
        bill = vault.make_bill(by=by)
        assert sum(line.charged for line in bill.lines) == bill.stored
        for prices in load_prices().classes.values():
            assert sum(price_bill(bill, prices)) == total_cost(bill, prices), prices.name
    spaces = {line.name: line for line in vault.make_bill().lines}
    assert spaces.keys() == {"acme", "lab", "solo"}
    assert spaces["acme"].share > 0


def test_a_past_month_is_worked_out_or_was_recorded(tmp_path: Path, monkeypatch):
    vault = open_local(tmp_path / "vault")
    then = time.time() - 70 * 86400
    month = day_of(then)[:7]
    with monkeypatch.context() as patch:
        patch.setattr("time.time", lambda: then)
        push(vault, write_model(tmp_path / "old", make_weights(1)), "acme/old")
    push(vault, write_model(tmp_path / "new", make_weights(2)), "lab/new")
    found = vault.make_bill(month)
    assert [line.name for line in found.lines] == ["acme"]
    assert found.stored == found.lines[0].charged == found.lines[0].own
    assert not found.recorded
    record_day(vault.catalogue, DayRow(f"{month}-28", then, 1, 1, 1, 1, 1, found.stored + 5000))
    again = vault.make_bill(month)
    assert (again.stored, again.lines[0].overhead) == (found.stored + 5000, 5000)
    assert vault.make_bill("2001-01").stored == 0
    for wrong in ("2026-13", "26-1", "9999-01"):
        with pytest.raises(InvalidInput):
            vault.make_bill(wrong)
    vault.close()


def test_who_sees_whose_bill(tmp_path: Path):
    """A namespace is told frames and money where the operator shows bills, and its lines alone."""
    vault = open_local(tmp_path / "vault")
    weights = make_weights(1)
    push(vault, write_model(tmp_path / "a", weights), "acme/base")
    push(vault, write_model(tmp_path / "b", tune(weights, 2)), "lab/tune")
    secret = create_token(vault, "acme", "read", "acme").secret
    everything = create_token(vault, "all", "read", None).secret
    # With tenants, what lab has must not rest on what acme keeps private.
    encode_all(vault)
    with serving(create_app(vault)) as url:
        own = HttpVault(url, token=secret)
        hidden = own.make_bill()
        assert [line.name for line in hidden.lines] == ["acme"]
        assert (hidden.counted, hidden.lines[0].billed) == ("raw", 0)
        assert [line.name for line in own.make_bill(by="repo").lines] == ["acme/base"]
        vault.show_bills(True)
        (line,) = own.make_bill().lines
        whole = HttpVault(url, token=everything)
        bill = whole.make_bill()
        assert line == next(each for each in bill.lines if each.name == "acme")
        assert bill.stored == sum(each.charged for each in bill.lines)
        assert bill.traffic is not None
        first = whole._transport.request("GET", "/v1/bills", params={"limit": 1})  # pyright: ignore
        assert [each["name"] for each in json.loads(first.body)["lines"]] == ["acme"]
        assert httpx.get(f"{url}/v1/bills").json()["lines"] == []
        own.close()
        whole.close()
    vault.close()


def test_whole_numbers_are_split_to_the_last():
    assert split_evenly(10, [1, 1, 1]) == [4, 3, 3]
    assert split_evenly(-10, [1, 1, 1]) == [-3, -3, -4] or sum(split_evenly(-10, [1, 1, 1])) == -10
    assert split_evenly(7, [0, 0]) == [4, 3]
    assert split_evenly(5, []) == []
    assert split_evenly(100, [3, 0, 1]) == [75, 0, 25]
    bill = MonthBill("2026-01", 5, True, (BillLine("a", 0, 0, 0, 0, 5),))
    assert sum(price_bill(bill, load_prices().find())) == total_cost(bill, load_prices().find())


def test_what_will_be_stored_goes_by_the_line_through_the_days(vault: LocalVault):
    today = vault.report().growth[-1]
    days = [replace(today, day=f"2026-01-{d:02}", stored=1000 + 10 * d) for d in range(1, 31)]
    assert forecast(days, 30) == 1300 + 300
    assert forecast(days[:1], 30) is None
    assert forecast([replace(day, stored=None) for day in days], 30) is None


def test_the_table_of_prices_has_the_usual_places():
    wanted = {"s3-standard", "s3-standard-frankfurt", "gcs-standard", "azure-hot", "b2"}
    assert wanted <= load_prices().classes.keys()


def test_the_glossary_has_every_word():
    page = (ROOT / "docs" / "glossary.md").read_text()
    for word, meaning in WORDS.items():
        assert f"| {word} | {meaning} |" in page, word
