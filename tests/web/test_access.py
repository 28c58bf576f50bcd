"""What pages show to whom: to anybody what anybody may read, to those signed in what theirs may."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from live_server import serving
from models import make_weights, tune, write_model
from vaults import open_local

from weightvault.api.requests.settings import ServerSettings
from weightvault.api.requests.tokens import create_token, revoke_token
from weightvault.api.server.app import create_app
from weightvault.api.web.session import COOKIE
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.transfer.push import push
from weightvault.dedup.transfer.refs import History
from weightvault.dedup.transfer.uploads import IncomingFiles

SHAPES = {f"model.layers.{i}.weight": (128, 96) for i in range(4)}
# The family: a private base, a public tune of it, another private one.
REPOS = ("lab/base", "open/tune", "other/tune")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalVault]:
    root = tmp_path_factory.mktemp("access")
    vault = open_local(root / "vault")
    weights = make_weights(1, SHAPES)
    for number, repo in enumerate(REPOS):
        model = tune(weights, number) if number else weights
        push(vault, write_model(root / repo, model, f"# Card of {repo}\n"), repo)
    History(vault, IncomingFiles(vault)).set_public("open/tune", True)
    yield vault
    vault.close()


@pytest.fixture(scope="module")
def tokens(kept: LocalVault) -> dict[str, str]:
    makes = {"all": ("read", None), "lab": ("read", "lab"), "gone": ("read", None)}
    made = {name: create_token(kept, name, *what).secret for name, what in makes.items()}
    revoke_token(kept, "gone")
    return made


@pytest.fixture
def visit(kept: LocalVault, tokens, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """A browser's side of a server; its parameter is what those without a token read."""
    settings = ServerSettings(anonymous_reads=getattr(request, "param", "none"))
    with (
        serving(create_app(kept, settings)) as url,
        httpx.Client(base_url=url, trust_env=False, follow_redirects=True) as client,
    ):
        yield client


def seen(client: httpx.Client) -> set[str]:
    """The repos that the list, search and their own pages show."""
    listed = {repo for repo in REPOS if f'href="/{repo}"' in client.get("/").text}
    searched = {repo for repo in REPOS if f'href="/{repo}"' in client.get("/?q=t&order=name").text}
    opened = {repo for repo in REPOS if client.get(f"/{repo}").status_code == 200}
    assert listed == opened
    assert searched <= opened
    for repo in set(REPOS) - opened:
        for page in ("", "/tree/main", "/blob/main/README.md", "/tensors", "/family", "/commits"):
            hidden = client.get(f"/{repo}{page}")
            absent = client.get(f"/{repo}-absent{page}")
            assert hidden.status_code == absent.status_code == 404
            assert hidden.text == absent.text.replace("-absent", "")
        for page in ("/download/main/README.md", "/image/main/x.png"):
            assert client.get(f"/{repo}{page}").status_code == 404
    return opened


def sign_in(client: httpx.Client, token: str, **form: str) -> httpx.Response:
    return client.post("/-/sign-in", data={"token": token, **form})


@pytest.mark.parametrize(
    ("visit", "repos"),
    [("none", set()), ("public", {"open/tune"}), ("all", set(REPOS))],
    indirect=["visit"],
)
def test_those_without_a_token_see_what_the_server_lets_them(visit: httpx.Client, repos: set[str]):
    assert seen(visit) == repos
    everything = repos == set(REPOS)
    assert visit.get("/-/storage").status_code == (200 if everything else 401)
    assert "Sign in" in visit.get("/").text


@pytest.mark.parametrize("visit", ["public"], indirect=True)
def test_a_family_names_only_who_may_be_seen(visit: httpx.Client):
    page = visit.get("/open/tune/family").text
    assert "lab/base" not in page
    assert "other/tune" not in page


def test_a_session_sees_what_its_token_may_read(visit: httpx.Client, tokens: dict[str, str]):
    assert str(sign_in(visit, tokens["lab"]).url.path) == "/"
    assert seen(visit) == {"lab/base", "open/tune"}
    assert visit.get("/-/storage").status_code == 403
    assert "Sign out" in visit.get("/").text
    visit.post("/-/sign-out")
    assert seen(visit) == set()
    sign_in(visit, tokens["all"])
    assert seen(visit) == set(REPOS)
    assert visit.get("/-/storage").status_code == 200


@pytest.mark.parametrize("token", ["", "wrong", "wv_" + "x" * 43, "é" * 5000, "a\0b"])
def test_a_wrong_token_begins_no_session(visit: httpx.Client, token: str):
    response = sign_in(visit, token)
    assert response.status_code in (401, 413)
    assert COOKIE not in visit.cookies


def test_a_revoked_token_ends_its_sessions(visit: httpx.Client, kept: LocalVault, tokens):
    assert sign_in(visit, tokens["gone"]).status_code == 401
    short = create_token(kept, "short", "read")
    sign_in(visit, short.secret)
    assert seen(visit) == set(REPOS)
    revoke_token(kept, short.row.id)
    assert seen(visit) == set()


def test_the_cookie_is_for_pages_alone(visit: httpx.Client, tokens: dict[str, str]):
    response = visit.post(
        "/-/sign-in", data={"token": tokens["all"], "to": "/lab/base"}, follow_redirects=False
    )
    assert response.status_code == 303
    assert response.headers["location"] == "/lab/base"
    cookie = response.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert tokens["all"] not in visit.cookies[COOKIE]
    for path in ("/v1/repos/lab/base", "/api/models/lab/base", "/lab/base/resolve/main/README.md"):
        assert visit.get(path).status_code in (401, 404)
    assert visit.get("/lab/base/download/main/README.md").text == "# Card of lab/base\n"


@pytest.mark.parametrize("cookie", ["", "x", "a.b", "e30.e30", "%00", "W10.", "." * 50, "x" * 5000])
def test_a_forged_cookie_is_none(visit: httpx.Client, cookie: str):
    assert visit.get("/lab/base", headers={"Cookie": f"{COOKIE}={cookie}"}).status_code == 404


def test_another_site_signs_nobody_in_or_out(visit: httpx.Client, tokens: dict[str, str]):
    foreign = ({"Origin": "https://elsewhere.test"}, {"Origin": "null"})
    foreign += ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"})
    for headers in foreign:
        answer = visit.post("/-/sign-in", data={"token": tokens["all"]}, headers=headers)
        assert answer.status_code == 403
    assert COOKIE not in visit.cookies
    sign_in(visit, tokens["all"])
    for headers in foreign:
        assert visit.post("/-/sign-out", headers=headers).status_code == 403
    assert seen(visit) == set(REPOS)


@pytest.mark.parametrize(
    "to", ["https://elsewhere.test/", "//elsewhere.test/", "/\\elsewhere.test", "/\r\nX: y", "x"]
)
def test_signing_in_leads_nowhere_else(visit: httpx.Client, tokens: dict[str, str], to: str):
    form = {"token": tokens["all"], "to": to}
    response = visit.post("/-/sign-in", data=form, follow_redirects=False)
    assert response.headers["location"] == "/"


def test_a_server_without_tokens_asks_nobody_to_sign_in(tmp_path: Path):
    vault = open_local(tmp_path / "vault")
    with (
        serving(create_app(vault)) as url,
        httpx.Client(base_url=url, trust_env=False) as client,
    ):
        page = client.get("/").text
        assert "Nothing is stored here yet" in page
        assert "Sign" not in page
        assert client.get("/-/storage").status_code == 200
    vault.close()
