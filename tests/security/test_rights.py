"""Who may do what: every route, every role, and repos whose names look like parts of addresses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click.testing
import httpx
import pytest
from fastapi import Depends
from fastapi.testclient import TestClient
from live_server import serving
from models import make_weights, read_folder, write_model
from route_table import ROUTES, UPLOAD_BATCH, Route, declared
from vaults import open_local

from weightvault.api.cli.main import cli
from weightvault.api.requests.access import needs, public_endpoint, rights_of, routes_of
from weightvault.api.requests.callers import caller_of
from weightvault.api.requests.settings import ServerSettings
from weightvault.api.requests.tokens import create_token
from weightvault.api.server import app as server
from weightvault.api.server.app import create_app
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.model.report import Query
from weightvault.dedup.transfer.push import push
from weightvault.dedup.transfer.refs import History, Message
from weightvault.dedup.transfer.uploads import IncomingFiles
from weightvault.store.repo_names import namespace_of

ODD = (
    *("frames", "commits", "check", "missing", "manifest", "files", "tensors", "api", "models"),
    *(
        "datasets",
        "spaces",
        "v1",
        "repos",
        "resolve",
        "tree",
        "locks",
        "settings",
        "info",
        "branch",
    ),
)
"""What repos of one namespace are called."""

PLAIN = "acme/frames"
TWINS = ("Acme/frames", "acme-x/frames", "acm/frames", "frames/acme", "api/models")
DATASETS = ("datasets/acme/frames", "datasets/Acme/frames", "spaces/acme/commits")
PUBLIC = "acme/open"
NOWHERE = "acme/absent"


@dataclass(frozen=True)
class Who:
    """Who asks: the role of their token, None without one, and its namespace, None for all."""

    role: str | None
    namespace: str | None = None
    reads: str = "none"

    def reads_all(self) -> bool:
        return self.reads == "all" or (self.role is not None and self.namespace is None)

    def may_read(self, repo: str) -> bool:
        if self.reads_all() or (self.role and namespace_of(repo) == self.namespace):
            return True
        return repo == PUBLIC and (self.role is not None or self.reads == "public")

    def may_write(self, repo: str) -> bool:
        return self.writes() and self.namespace in (None, namespace_of(repo))

    def writes(self) -> bool:
        return self.role in ("write", "admin")

    def may(self, route: Route, repo: str) -> bool:
        """What the table says."""
        allowed = {
            "nothing": True,
            "own": True,
            "token": self.role is not None,
            "read": self.may_read(repo),
            "write": self.may_write(repo),
            "commit": self.may_write(repo),
            "push": self.writes(),
            "delete in body": self.may_write(repo),
            "create in body": self.may_write(repo),
            "read all": self.reads_all(),
            "write all": self.writes() and self.namespace is None,
            "grant": False,
        }
        return allowed[route.need]


WHO = (
    *(Who(None, reads=reads) for reads in ("none", "public", "all")),
    *(Who(role, space) for role in ("read", "write", "admin") for space in (None, "acme", "lab")),
    # Those who would get in where LIKE or a prefix decides.
    *(Who("admin", space) for space in ("Acme", "acme-x", "acm", "frames")),
)


class World:
    """A vault with odd repos, served to one caller at a time."""

    def __init__(self, vault: LocalVault) -> None:
        self.vault = vault
        self.history = History(vault, IncomingFiles(vault))
        names = {f"acme/{name}" for name in ODD} | {PUBLIC, *TWINS, *DATASETS}
        for repo in sorted(names):
            self.make(repo)
        self.tokens = {
            who: create_token(vault, f"t{number}", who.role, who.namespace).secret
            for number, who in enumerate(WHO)
            if who.role is not None
        }

    def make(self, repo: str) -> None:
        self.history.create_repo(repo, Message("first"), public=repo == PUBLIC)

    def state(self) -> dict[str, tuple[object, ...]]:
        """All repos with what may be changed of them."""
        return {
            repo.name: (
                self.history.branches(repo.name),
                self.history.tags(repo.name),
                self.history.is_public(repo.name),
            )
            for repo in self.vault.list_repos()
        }

    @contextmanager
    def asking(self, who: Who) -> Iterator[TestClient]:
        settings = ServerSettings(anonymous_reads=who.reads, multipart_bytes=1 << 40)
        headers = {"Authorization": f"Bearer {self.tokens[who]}"} if who in self.tokens else {}
        app = create_app(self.vault, settings)
        with TestClient(app, headers=headers, follow_redirects=False) as web:
            yield web


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    vault = open_local(tmp_path_factory.mktemp("rights") / "served")
    yield World(vault)
    vault.close()


def ask(web: TestClient, route: Route, repo: str, *, encode: bool = False) -> httpx.Response:
    return web.request(route.method, route.address(repo, encode=encode), **route.options(repo))


def refused(answer: httpx.Response) -> bool:
    if answer.status_code == 404:
        said = answer.text.lower()
        return (
            "there is no repo" in said
            or '"repository not found"' in said
            or answer.request.method == "HEAD"
        )
    return answer.status_code in (401, 403)


def named(repo: str, answer: httpx.Response) -> str:
    """An answer as it would be of a repo of another name."""
    return answer.text.replace(repo.split("/")[-1], "REPO")


def test_the_table_has_every_route(world: World):
    with world.asking(WHO[0]) as web:
        assert declared(web.app) == {route.key for route in ROUTES}  # type: ignore[arg-type]


def test_every_route_declares_one_right(world: World):
    with world.asking(WHO[0]) as web:
        found = list(routes_of(web.app))  # type: ignore[arg-type]
    assert len(found) > 100
    for route in found:
        assert len(rights_of(route)) == 1, route


def bare() -> dict[str, str]:
    return {}


def test_an_application_with_a_bare_route_is_not_made(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    def add(dependencies: list[object]) -> None:
        def add_route(app: object) -> None:
            app.get("/bare", dependencies=dependencies)(bare)  # type: ignore[attr-defined]

        monkeypatch.setattr(server, "add_pages", add_route)

    for dependencies in ([], [Depends(caller_of)]):
        add(dependencies)
        with pytest.raises(RuntimeError, match="no right is declared"):
            create_app(world.vault)
    add(needs(public_endpoint))
    create_app(world.vault)


def repos_for(who: Who) -> Iterator[str]:
    """Repos to try on all routes: all odd names where nothing may come of it."""
    yield from (PLAIN, PUBLIC, "Acme/frames", "datasets/acme/frames")
    if who in (Who(None), Who("write", "lab")):
        yield from (f"acme/{name}" for name in ODD)
        yield from (*TWINS, *DATASETS)


@pytest.mark.parametrize("who", WHO, ids=str)
def test_what_is_not_allowed_is_refused_and_changes_nothing(world: World, who: Who):
    before, tried = world.state(), 0
    with world.asking(who) as web:
        for route in (*ROUTES, UPLOAD_BATCH):
            for repo in dict.fromkeys(repos_for(who)):
                if not route.takes(repo) or who.may(route, repo):
                    continue
                for encode in (False, True) if repo == PLAIN else (False,):
                    answer = ask(web, route, repo, encode=encode)
                    assert refused(answer), (route, repo, answer.status_code, answer.text[:300])
                    tried += 1
    assert world.state() == before
    assert tried > 5


@pytest.mark.parametrize("who", WHO, ids=str)
def test_what_is_allowed_is_not_refused(world: World, who: Who):
    with world.asking(who) as web:
        for route in (*ROUTES, UPLOAD_BATCH):
            for repo in (PLAIN, PUBLIC, "datasets/acme/frames"):
                sign_in = route.key == ("POST", "/-/sign-in")
                if sign_in or not route.takes(repo) or not who.may(route, repo):
                    continue
                answer = ask(web, route, repo)
                assert not refused(answer) or route.method == "HEAD", (route, repo, answer.text)
                assert answer.status_code < 500 or answer.status_code == 501, (route, answer.text)
                if route.need not in ("read", "own", "nothing", "token", "read all", "push"):
                    restore(world, repo)


def restore(world: World, repo: str) -> None:
    """Brings back what an allowed request took away or moved."""
    moved = f"{repo}-moved"
    known = {found.name for found in world.vault.list_repos()}
    if moved in known:
        world.vault.delete_repo(moved)
    if repo not in known:
        world.make(repo)
    world.history.set_public(repo, repo == PUBLIC)


@pytest.mark.parametrize("who", [WHO[0], Who("write", "lab"), Who("admin", "Acme")], ids=str)
def test_a_hidden_repo_answers_as_one_that_is_not_there(world: World, who: Who):
    with world.asking(who) as web:
        for route in ROUTES:
            if route.need in ("read", "write", "commit") and route.takes(PLAIN):
                hidden, absent = ask(web, route, PLAIN), ask(web, route, NOWHERE)
                assert hidden.status_code == absent.status_code, route
                assert named(PLAIN, hidden) == named(NOWHERE, absent), route


def test_a_name_is_no_way_to_write(world: World):
    """The attack: whoever may read deletes a repo whose address ends like that of a read."""
    before = world.state()
    with world.asking(Who(None, reads="all")) as web:
        for name in ODD:
            for path in (f"acme/{name}", f"acme/%{ord(name[0]):02x}{name[1:]}"):
                assert web.delete(f"/v1/repos/{path}").status_code == 401
    with world.asking(Who("read")) as web:
        for name in ODD:
            assert web.delete(f"/v1/repos/acme/{name}").status_code == 403
            assert web.delete(f"/v1/repos/datasets/acme/{name}").status_code == 403
    assert world.state() == before


def test_an_encoded_slash_makes_no_other_repo(world: World):
    """What stands between namespace and name is one slash, for the right and for the endpoint."""
    before = world.state()
    with world.asking(Who("admin", "frames")) as web:
        for path in ("acme%2Fframes/x", "acme/frames%2Fx", "x%2F..%2Facme/frames", "acme%2fframes"):
            for prefix in ("/api/models/", "/v1/repos/", "/v1/repos/datasets/", "/datasets/", "/"):
                for method in ("GET", "DELETE", "POST"):
                    answer = web.request(method, f"{prefix}{path}")
                    assert answer.status_code in (400, 404, 405), (method, prefix, path)
                answer = web.post(f"{prefix}{path}/branch/dev", json={})
                assert answer.status_code in (400, 403, 404, 405), (prefix, path)
    assert world.state() == before


# Datasets


def run(url: str, *words: str | Path, token: str) -> click.testing.Result:
    env = {"WEIGHTVAULT_TOKEN": token}
    return click.testing.CliRunner().invoke(cli, ["--vault", url, *map(str, words)], env=env)


@pytest.mark.parametrize("repo", ["datasets/acme/data", "datasets/acme/frames", "spaces/acme/x"])
def test_other_kinds_are_pushed_and_pulled_through_a_server(tmp_path: Path, repo: str):
    folder = write_model(tmp_path / "model", make_weights(1), "# Card\n")
    vault = open_local(tmp_path / "served")
    mine = create_token(vault, "mine", "write", "acme").secret
    theirs = create_token(vault, "theirs", "admin", "Acme").secret
    with serving(create_app(vault)) as url:
        assert run(url, "push", folder, repo, token=theirs).exit_code == 9
        pushed = run(url, "push", folder, repo, token=mine)
        assert pushed.exit_code == 0, pushed.output
        assert run(url, "pull", repo, tmp_path / "none", token=theirs).exit_code == 3
        pulled = run(url, "pull", repo, tmp_path / "copy", token=mine)
        assert pulled.exit_code == 0, pulled.output
        assert repo in run(url, "--json", "ls", token=mine).stdout
        assert repo not in run(url, "--json", "ls", token=theirs).stdout
        assert run(url, "info", repo, token=mine).exit_code == 0
        assert run(url, "rm", "--yes", repo, token=theirs).exit_code == 3
        assert run(url, "rm", "--yes", repo, token=mine).exit_code == 0
    assert read_folder(tmp_path / "copy") == read_folder(folder)
    vault.close()


def test_pages_of_a_dataset_are_where_the_list_leads(tmp_path: Path):
    vault = open_local(tmp_path / "served")
    repo = "datasets/acme/tree"
    push(vault, write_model(tmp_path / "model", make_weights(1), "# Data\n"), repo)
    web = TestClient(create_app(vault), base_url="http://localhost")
    assert f'href="/{repo}"' in web.get("/").text
    pages = ("", "/tree/main", "/tensors", "/family", "/commits", "/blob/main/README.md")
    for page in pages:
        answer = web.get(f"/{repo}{page}")
        assert answer.status_code == 200, page
        assert "acme/" in answer.text
    assert web.get(f"/{repo}/download/main/README.md").text == "# Data\n"
    vault.close()


def test_a_report_counts_a_dataset_under_its_namespace(tmp_path: Path):
    vault = open_local(tmp_path / "served")
    for number, repo in enumerate(("acme/model", "datasets/acme/data", "datasets/Acme/data")):
        push(vault, write_model(tmp_path / str(number), make_weights(number)), repo)
    (found,) = vault.report(Query(("namespace",))).breakdowns
    assert {row.name for row in found.rows} == {"acme", "Acme"}
    result = click.testing.CliRunner().invoke(
        cli, ["--vault", str(tmp_path / "served"), "--json", "report", "--by", "namespace"]
    )
    vault.close()
    assert result.exit_code == 0, result.output
    assert '"datasets"' not in json.dumps(json.loads(result.stdout))
