"""What a namespace's token is told: nothing that names another's private repo, case and prefix of
whose namespace are nearly the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import httpx
import pytest
from fastapi.testclient import TestClient
from models import make_weights, tune, write_model
from route_table import ROUTES, Route
from vaults import open_local

from weightvault.api.requests.tokens import create_token
from weightvault.api.server.app import create_app
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.transfer.push import push
from weightvault.dedup.transfer.refs import History
from weightvault.dedup.transfer.uploads import IncomingFiles
from weightvault.store.backends.open import open_backend
from weightvault.store.catalogue.catalogue import open_catalogue

SHAPES = {"model.weight": (128, 96)}
OWN = ("acme/mine", "datasets/acme/mine", "acme/open")
SECRET = "undisclosed"
HIDDEN = tuple(
    f"{kind}{namespace}/{SECRET}-{number}"
    for number, namespace in enumerate(("Acme", "ACME-x", "acme-x", "ac", "acme.org", "lab"))
    for kind in ("", "datasets/", "spaces/")
)
ROLES = ("read", "write", "admin")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def vault(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalVault]:
    """One family of models, its base hidden, its members everywhere."""
    root = tmp_path_factory.mktemp("names")
    if request.param == "sqlite":
        opened = open_local(root / "vault")
    else:
        backend = open_backend(str(root / "vault" / "objects"))
        catalogue = open_catalogue(request.getfixturevalue("postgres_server").new_url())
        opened = LocalVault(backend, catalogue, scratch=root)
    weights = make_weights(1, SHAPES)
    base = HIDDEN[0]
    for number, repo in enumerate((*HIDDEN, *OWN)):
        model = tune(weights, number) if number else weights
        folder = write_model(root / str(number), model, f"# Card {number}\n")
        push(opened, folder, repo, base=base if repo in OWN else None)
    History(opened, IncomingFiles(opened)).set_public("acme/open", True)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def web(vault: LocalVault) -> Iterator[TestClient]:
    create_token(vault, "operator", "admin")
    with TestClient(create_app(vault), base_url="http://localhost") as client:
        yield client


def answers(web: TestClient, headers: dict[str, str]) -> Iterator[tuple[Route, httpx.Response]]:
    """All that may be read, and whatever may be asked without harm, at every address of OWN."""
    for route in ROUTES:
        harmless = route.need in ("own", "read", "read all", "token", "push", "commit", "nothing")
        if not harmless or route.method not in ("GET", "HEAD", "POST"):
            continue
        for repo in OWN:
            if route.takes(repo):
                address, options = route.address(repo), route.options(repo)
                yield route, web.request(route.method, address, headers=headers, **options)


def assert_tells_nothing(answer: httpx.Response) -> None:
    said = answer.text + json.dumps(dict(answer.headers))
    # The front page and others show the declared base, which is a name that the owner wrote.
    said = said.replace(HIDDEN[0], "").replace(HIDDEN[0].replace("/", "%2F"), "")
    found = re.findall(rf".{{0,60}}{SECRET}.{{0,20}}", said)
    assert not found, (answer.request.url, found[:3])


@pytest.mark.parametrize("role", ROLES)
def test_no_answer_names_what_is_hidden(web: TestClient, vault: LocalVault, role: str):
    secret = create_token(vault, f"acme-{role}", role, "acme").secret
    count = 0
    for _, answer in answers(web, {"Authorization": f"Bearer {secret}"}):
        assert_tells_nothing(answer)
        assert answer.status_code < 500
        count += 1
    assert count > 80


def test_no_page_names_what_is_hidden(web: TestClient, vault: LocalVault):
    secret = create_token(vault, "reader", "read", "acme").secret
    web.post("/-/sign-in", data={"token": secret})
    try:
        for route, answer in answers(web, {}):
            assert_tells_nothing(answer)
            if route.pattern == "/":
                assert all(f'href="/{repo}"' in answer.text for repo in OWN)
    finally:
        web.cookies.clear()


def test_anonymous_readers_are_told_of_public_repos_alone(vault: LocalVault):
    from weightvault.api.requests.settings import ServerSettings

    create_token(vault, "some", "admin")
    app = create_app(vault, ServerSettings(anonymous_reads="public"))
    with TestClient(app, base_url="http://localhost") as web:
        for _, answer in answers(web, {}):
            assert_tells_nothing(answer)
            assert "acme/mine" not in answer.text or answer.status_code in (401, 403, 404)


@pytest.mark.parametrize(
    "query",
    [
        *("?q=undisclosed", "?q=ACME", "?q=Acme%2Fundisclosed", "?q=%25", "?q=_", "?order=name"),
        *(
            "?order=name&after=A",
            "?order=name&after=Acme%2Fa",
            "?order=name&before=z",
        ),
    ],
)
def test_no_search_and_no_place_in_a_list_shows_it(web: TestClient, vault: LocalVault, query: str):
    headers = {"Authorization": f"Bearer {create_token(vault, 'r', 'read', 'acme').secret}"}
    page = web.get(f"/{query}", headers=headers)
    assert page.status_code == 200
    # What was searched for stands on the page as it was typed.
    assert f'href="/{HIDDEN[0]}"' not in page.text
    assert not [repo for repo in HIDDEN if f'"/{repo}"' in page.text]
    total = re.search(r'<span class="muted">(\d+)</span>', page.text)
    assert total is not None
    assert int(total[1]) <= len(OWN)


@pytest.mark.parametrize("kind", ["models", "datasets", "spaces"])
def test_no_list_of_a_hub_shows_it(web: TestClient, vault: LocalVault, kind: str):
    headers = {"Authorization": f"Bearer {create_token(vault, 'r', 'read', 'acme').secret}"}
    for query in (
        "",
        "?author=Acme",
        "?author=acme",
        "?search=undisclosed",
        "?search=acme",
        "?limit=1",
    ):
        answer = web.get(f"/api/{kind}{query}", headers=headers)
        assert {repo["id"] for repo in answer.json()} <= {"acme/mine", "acme/open"}
        assert SECRET not in answer.headers.get("link", "").replace(query, "")


@pytest.mark.parametrize("repo", [HIDDEN[0], HIDDEN[1], HIDDEN[3]])
def test_a_hidden_repo_is_as_one_that_is_not_there(web: TestClient, vault: LocalVault, repo: str):
    headers = {"Authorization": f"Bearer {create_token(vault, 'w', 'write', 'acme').secret}"}
    absent = repo.replace(SECRET, "absent")
    for route in ROUTES:
        if route.need not in ("read", "write", "commit") or not route.takes(repo):
            continue
        told = []
        for asked in (repo, absent):
            answer = web.request(
                route.method, route.address(asked), headers=headers, **route.options(asked)
            )
            told.append((answer.status_code, answer.text.replace(asked.split("/")[-1], "REPO")))
        assert told[0] == told[1], route
