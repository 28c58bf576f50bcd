"""The report as files: an HTML page that stands alone, and a picture."""

import struct
from pathlib import Path

import click.testing
import pytest
from browser import Visitor, find_chromium, running_browser
from sites import Site, tags_of

from weightvault.api.cli.main import cli
from weightvault.api.web.figures import DASHBOARD, draw_all, draw_waterfall
from weightvault.dedup.model.report import Query, Report


def run(*arguments: object) -> click.testing.Result:
    return click.testing.CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def report(site: Site) -> Report:
    return site.vault.report(DASHBOARD)


@pytest.fixture(scope="module")
def page(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = run("--vault", site.url, "report", "--format", "html")
    assert made.exit_code == 0, made.stderr
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(made.stdout)
    return path


def test_the_html_report_refers_to_nothing(page: Path):
    text = page.read_text()
    for tag, attributes in tags_of(text):
        assert not attributes.keys() & {"src", "href", "action", "srcset", "data"}, (
            tag,
            attributes,
        )
    assert "@import" not in text
    assert "url(" not in text.split("</style>")[0]


@pytest.mark.skipif(find_chromium() is None, reason="no Chromium")
def test_the_html_report_opens_from_a_folder(page: Path):
    with running_browser() as browser:
        for theme in ("light", "dark"):
            visitor = Visitor(browser, theme)
            opened = visitor.see(page.as_uri())
            visitor.keep("report")
            assert opened.evaluate("document.documentElement.dataset.charts") == "6"
            assert visitor.requests == [page.as_uri()]
            assert visitor.faults == []
            assert visitor.serious_faults() == []
            visitor.context.close()


def test_breakdowns_of_the_html_report_can_be_chosen(site: Site):
    made = run("--vault", site.url, "report", "--format", "html", "--by", "codec").stdout
    assert 'id="figure-codecs"' in made
    assert 'id="figure-repos"' not in made


def test_the_picture_is_a_png(site: Site, tmp_path: Path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "stages.png"
    made = run("--vault", site.url, "report", "--png", path)
    assert made.exit_code == 0, made.stderr
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    assert width > 1000
    assert height > 300


@pytest.mark.parametrize("target", ["folder", "none/x.png"])
def test_a_picture_that_cannot_be_written_is_said(site: Site, tmp_path: Path, target: str):
    pytest.importorskip("matplotlib")
    (tmp_path / "folder").mkdir()
    made = run("--vault", site.url, "report", "--png", tmp_path / target)
    assert made.exit_code != 0
    assert "Traceback" not in made.stderr


@pytest.mark.parametrize("extra", [["--format", "html"], ["--png", "x.png"]])
def test_predictions_have_no_charts(site: Site, extra: list[str]):
    made = run("--vault", site.url, "report", "--what-if", "rm", "org/base", *extra)
    assert made.exit_code == 2
    assert extra[-1].split(".")[-1].upper() in made.stderr


def test_bars_of_the_waterfall_lead_from_plain_files_to_what_is_stored(report: Report):
    drawn = draw_waterfall(report)
    steps = drawn.series[0].values
    assert steps[0] == (0, report.logical)
    assert steps[-1] == (0, report.stored)
    level = report.logical
    for step in steps[1:-1]:
        assert isinstance(step, tuple)
        assert step[0] == level
        level = step[1]
    assert level == report.stored
    assert len(drawn.labels) == len(drawn.table) == len(steps) == len(drawn.colours)


def test_figures_say_in_words_what_they_show(report: Report):
    figures = {figure.name: figure for figure in draw_all(report)}
    assert set(figures) == {
        "waterfall",
        "growth",
        "namespaces",
        "repos",
        "formats",
        "dtypes",
        "codecs",
    }
    for figure in figures.values():
        assert figure.summary.endswith(".")
        assert all(len(row) == len(figure.head) for row in figure.table)
        assert all(len(series.values) == len(figure.labels) for series in figure.series)


def test_figures_are_drawn_of_what_was_asked_for(site: Site):
    figures = draw_all(site.vault.report(Query(by=("dtype",), top=1)))
    assert [figure.name for figure in figures][-1] == "dtypes"
    assert len(figures[-1].labels) == 1
