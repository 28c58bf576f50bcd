"""Bills, by hand; tables of prices that are none."""

import tomllib
from pathlib import Path

import pytest

from weightvault.dedup.errors import InvalidInput
from weightvault.dedup.reports import prices
from weightvault.dedup.reports.prices import GIB, Tier, Usage, bill_for, load_prices

TABLE = """
default = "here"
[classes.here]
title = "Here"
currency = "EUR"
date = 2026-01-02
source = "a bill"
storage = [{ up_to_gib = 10, price = 0 }, { up_to_gib = 30, price = 2.0 }, { price = 1.0 }]
puts = 5.0
gets = 0.5
upload = 0.25
retrieval = 0.125
egress = [{ price = 3.0 }]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "prices.toml"
    path.write_text(text)
    return path


def test_a_bill_has_tiers_requests_and_transfer(tmp_path: Path):
    here = load_prices(write(tmp_path, TABLE)).find()
    usage = Usage(50 * GIB, puts=2000, gets=4000, uploaded=4 * GIB, read=8 * GIB, sent=2 * GIB)
    bill = bill_for(here, usage)
    assert bill.storage == pytest.approx(20 * 2.0 + 20 * 1.0)
    assert bill.requests == pytest.approx(2 * 5.0 + 4 * 0.5)
    assert bill.transfer == pytest.approx(4 * 0.25 + 8 * 0.125)
    assert bill.egress == pytest.approx(6.0)
    assert bill.total == pytest.approx(60 + 12 + 2 + 6)
    assert bill_for(here, Usage(5 * GIB)).total == 0


def test_the_table_that_is_shipped_has_dates_and_sources():
    table = load_prices()
    assert {"s3-standard", "s3-standard-ia", "s3-glacier-instant", "local-hdd"} <= set(
        table.classes
    )
    assert table.find().name == "s3-standard"
    for found in table.classes.values():
        assert found.source
        assert 2024 < found.date.year < 2100
        assert found.currency == "USD"
        assert isinstance(found.storage[-1], Tier)
        assert found.storage[-1].up_to_gib is None
    assert {"s3-standard-frankfurt", "gcs-standard", "azure-hot", "b2"} <= set(table.classes)
    # What is doubtful is said wherever a price is shown.
    assert table.find("azure-hot").origin.endswith("beyond 10 TiB")
    assert "not confirmed" not in table.find("s3-standard-frankfurt").origin
    hundred_tib = bill_for(table.find("s3-standard"), Usage(100 * 1024 * GIB))
    assert hundred_tib.storage == pytest.approx(51200 * 0.023 + 51200 * 0.022)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('default = "here"', 'default = "there"'),
        ('default = "here"', ""),
        ("[classes.here]", "[classes]"),
        ("puts = 5.0", "puts = -5.0"),
        ("puts = 5.0", 'puts = "five"'),
        ("puts = 5.0", "puts = nan"),
        ("puts = 5.0", "postage = 5.0"),
        ("date = 2026-01-02", 'date = "yesterday"'),
        ("date = 2026-01-02", ""),
        ("{ price = 3.0 }", "{ price = 3.0, up_to_gib = 4 }"),
        ("{ price = 3.0 }", "{ price = -3.0 }"),
        ("[{ price = 3.0 }]", "3.0"),
        ("up_to_gib = 30", "up_to_gib = 5"),
        ("title =", "title"),
        ("puts = 5.0", "least_object_bytes = 1000"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, old: str, new: str):
    assert old in TABLE
    with pytest.raises(InvalidInput):
        load_prices(write(tmp_path, TABLE.replace(old, new)))


def test_the_page_on_costs_has_the_dates_of_the_table():
    page = (Path(__file__).parents[3] / "docs" / "costs.md").read_text()
    for found in load_prices().classes.values():
        (row,) = [line for line in page.splitlines() if f"`{found.name}`" in line and "|" in line]
        assert found.date.isoformat() in row, found.name


def test_a_table_that_is_not_there(tmp_path: Path):
    with pytest.raises(InvalidInput, match="cannot read"):
        load_prices(tmp_path / "none.toml")
    with pytest.raises(InvalidInput, match="imaginary"):
        load_prices().find("s3-imaginary")


def test_the_shipped_table_is_toml_without_surprises():
    document = tomllib.loads((Path(prices.__file__).parent / "prices.toml").read_text())
    assert document.keys() == {"default", "classes"}
