"""The pages without a browser: what they say, where they lead, what they refuse."""

import re
import tomllib
from html import unescape
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from live_server import serving
from models import make_weights, write_model
from sites import MANY, Site, tags_of
from vaults import open_local

from weightvault.api.server.app import create_app
from weightvault.dedup.transfer.push import push

PAGES = (
    "/",
    "/?q=probe&order=name",
    "/-/storage",
    "/org/base",
    "/org/base/tree/main",
    "/org/base/tree/main/figures",
    "/org/base/blob/main/config.json",
    "/org/base/blob/main/model.safetensors",
    "/org/base/tensors",
    "/org/base/tensors/main?q=layers&page=1",
    "/org/base/family",
    "/org/base/commits/main",
    "/people/tune/tree/dev%2Fx",
    "/evil/card",
    "/evil/card/tensors",
)


def links(page: str) -> list[str]:
    return [unescape(link) for link in re.findall(r'(?:href|src)="([^"]*)"', page)]


def names(page: str) -> list[str]:
    """The repos of a list, in order."""
    rows = re.findall(r'<th scope="row"><a href="/([^"]+)">', page)
    return [unescape(row) for row in rows]


def step(page: str, direction: str) -> str | None:
    found = re.search(rf'<a rel="{direction}" href="([^"]+)"', page)
    return unescape(found[1]) if found else None


@pytest.mark.parametrize("path", PAGES)
def test_pages_have_their_headers_and_only_links_of_this_server(web: httpx.Client, path: str):
    response = web.get(path)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    for link in links(response.text):
        assert re.match(r"/(?!/)|#", link), link
    for tag, attributes in tags_of(response.text):
        assert not any(name.startswith("on") or name == "style" for name in attributes), attributes
        if tag == "script":
            assert attributes.get("src") or attributes["type"] == "application/json"


def test_every_link_of_every_page_leads_somewhere(web: httpx.Client):
    seen: set[str] = set()
    waiting: list[str] = [*PAGES]
    while waiting:
        path = waiting.pop()
        if path in seen or "/lab-" in path or "lab-" in path or path.startswith("#"):
            continue
        seen.add(path)
        response = web.get(path)
        assert response.status_code == 200, path
        if response.headers["content-type"].startswith("text/html"):
            waiting.extend(links(response.text))
    assert len(seen) > 40


@pytest.mark.parametrize("order", ["updated", "name"])
def test_a_walk_through_the_pages_meets_every_model_once(web: httpx.Client, order: str):
    path: str | None = f"/?order={order}"
    pages: list[list[str]] = []
    while path:
        page = web.get(path).text
        pages.append(names(page))
        path, back = step(page, "next"), step(page, "prev")
        assert (back is None) == (len(pages) == 1)
        if back:
            assert names(web.get(back).text) == pages[-2]
    found = [name for page in pages for name in page]
    assert len(found) == len(set(found)) == MANY + 3
    assert [len(page) for page in pages] == [30, 30, 13]
    if order == "name":
        assert found == sorted(found)
    else:
        assert found[0] == "evil/card"


def test_search_finds_parts_of_names_in_any_case(web: httpx.Client):
    assert names(web.get("/?q=BASE").text) == ["org/base"]
    assert names(web.get("/?q=probe-01").text) == [
        f"lab-{i % 7}/probe-{i:03}" for i in range(19, 9, -1)
    ]
    page = web.get("/?q=%25%3Cb%3E").text
    assert names(page) == []
    assert "<b>" not in page.split("<main")[1]
    assert "&lt;b&gt;" in page


def test_files_are_listed_by_folder_with_their_sizes(web: httpx.Client, site: Site):
    manifest = site.vault.resolve("org/base").manifest
    page = web.get("/org/base/tree/main").text
    top = re.findall(r'<th scope="row"><a[^>]*>([^<]*)</a>', page)
    assert [unescape(name) for name in top] == [
        "figures/",
        *(f.path for f in manifest.files if "/" not in f.path),
    ]
    assert "plot.png" in web.get("/org/base/tree/main/figures").text


def test_tensors_come_a_page_at_a_time(web: httpx.Client):
    found: list[str] = []
    path: str | None = "/org/base/tensors/main"
    while path:
        page = web.get(path).text
        found += re.findall(r'<th scope="row"><code>([^<]*)</code>', page)
        path = step(page, "next")
    assert len(found) == len(set(found)) == 234
    few = web.get("/org/base/tensors/main?q=LAYERS.1").text
    assert re.findall(r'<th scope="row"><code>([^<]*)', few) == ["model.layers.1.weight"]
    assert "128 × 96" in few
    tune = web.get("/people/tune/tensors/main").text
    assert tune.count("tag delta") == 4


def test_a_branch_with_a_slash_is_one_part_of_the_address(web: httpx.Client):
    page = web.get("/people/tune/tree/dev%2Fx").text
    assert "model.safetensors" in page
    assert "/people/tune/blob/dev%2Fx/model.safetensors" in links(page)
    assert web.get("/people/tune/tree/dev/x").status_code == 404


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/org/none", 404, "There is no repo org/none"),
        ("/org/base/tree/none", 404, "has no revision"),
        ("/org/base/tree/main/none", 404, "has no folder"),
        ("/org/base/blob/main/none", 404, "has no file"),
        ("/org/base/blob/main/..%2F..%2Fx", 404, "has no file"),
        ("/org/base/image/main/config.json", 404, "no image"),
        ("/-odd-/base", 404, None),
        ("/org/ba..se", 400, "not allowed"),
        ("/?order=size", 400, "not one of a page"),
        ("/?after=x", 400, "no such page"),
        (f"/?after={'9' * 30}", 400, "no such page"),
        (f"/?q={'x' * 300}", 400, "not one of a page"),
        ("/org/base/tensors/main?page=x", 400, "not one of a page"),
        ("/org/base/tree/%00", 400, "not allowed"),
        ("/org/base/tree/a%7Eb", 400, "not allowed"),
        # Names of branches are those of git: not ASCII alone.
        ("/org/base/tree/%FF%FE", 404, "has no revision"),
    ],
)
def test_what_is_not_there_is_said_on_a_page(
    web: httpx.Client, path: str, status: int, says: str | None
):
    response = web.get(path)
    assert response.status_code == status
    if says:
        assert says in unescape(response.text)
        assert response.headers["content-type"].startswith("text/html")
        assert "content-security-policy" in response.headers


@pytest.mark.parametrize("path", ["/v1/nothing", "/api/nothing", "/v1/repos/org/none", "/health/x"])
def test_what_an_api_does_not_have_is_no_page(web: httpx.Client, path: str):
    response = web.get(path)
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/json"


def test_pages_only_read(web: httpx.Client):
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        for path in ("/", "/org/base", "/org/base/tree/main", "/-/storage"):
            assert web.request(method, path).status_code == 405


def test_a_file_comes_as_it_is_and_is_never_run(web: httpx.Client, site: Site):
    for path in ("model.safetensors", "notes <b>.txt"):
        response = web.get(f"/org/base/download/main/{quote(path)}")
        _, _, pieces = site.vault.read_file("org/base", "main", path)
        assert response.content == b"".join(pieces)
        assert response.headers["content-type"] == "application/octet-stream"
        assert response.headers["content-disposition"].startswith("attachment")
        assert "default-src 'none'" in response.headers["content-security-policy"]


def test_names_from_outside_are_texts(web: httpx.Client):
    page = web.get("/evil/card/tensors").text
    assert "&lt;script&gt;document.title" in page
    assert "<script>document" not in page
    notes = web.get("/org/base/blob/main/notes%20%3Cb%3E.txt").text
    assert "&lt;b&gt;not bold&lt;/b&gt;" in notes
    assert "<b>" not in notes.split("<main")[1]


def test_static_files_are_there_and_nothing_beside_them(web: httpx.Client):
    for name in ("style.css", "theme.js", "charts.js", "chart.min.js", "icon.svg"):
        assert web.get(f"/-/static/{name}").status_code == 200
    for name in ("../rendering.py", "%2e%2e/rendering.py", "..%2frendering.py", "none.js"):
        assert web.get(f"/-/static/{name}").status_code == 404


def test_a_page_is_quick_to_say_how_many_there_are(web: httpx.Client):
    page = web.get("/").text
    assert re.search(rf"Models <span class=\"muted\">{MANY + 3}</span>", page)


def test_the_wheel_gets_every_file_of_the_pages():
    root = Path(__file__).parents[2]
    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = settings["package-data"]["weightvault.api.web"]
    folder = root / "api" / "web"
    packed = {path for pattern in patterns for path in folder.glob(pattern)}
    there = {p for p in folder.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")}
    assert packed == there
    assert (folder / "static" / "chart.LICENSE.md").exists()
    assert (folder / "static" / "chart.min.js").stat().st_size < 300_000


def test_the_dashboard_shows_the_last_push_at_once(tmp_path: Path):
    vault = open_local(tmp_path / "vault")
    with (
        serving(create_app(vault)) as url,
        httpx.Client(base_url=url, trust_env=False) as client,
    ):
        assert "Nothing is stored" in client.get("/-/storage").text
        for repos in ("1 repo,", "2 repos,"):
            model = write_model(tmp_path / "model", make_weights(int(repos[0])))
            push(vault, model, f"org/m{repos[0]}")
            assert repos in client.get("/-/storage").text
            assert repos in client.get("/-/storage").text
    vault.close()
