"""A mirror in front of a hub that answers as the public one does."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click.testing
import httpx
import pytest
from hub_clients import VERSIONS, checked, client_environment, hf
from live_server import serving, wait_until
from replayed_hub import ReplayedHub, Repo, replayed_hub
from vaults import open_local

from weightvault.api.cli.main import cli
from weightvault.api.errors import UnsafeAddress
from weightvault.api.mirror.addresses import check_target, find_public_address
from weightvault.api.mirror.guard import TOKEN_HEADER
from weightvault.api.mirror.mirror import Mirror
from weightvault.api.requests.audit import AUDIT_LOGGER
from weightvault.api.requests.settings import ServerSettings, UpstreamSettings
from weightvault.api.requests.tokens import create_token
from weightvault.api.server.app import create_app
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.quotas import set_limits
from weightvault.dedup.maintenance.rebuild_catalogue import rebuild_catalogue
from weightvault.dedup.transfer.refs import History, Message
from weightvault.dedup.transfer.uploads import IncomingFiles
from weightvault.store.catalogue.access.limits import Limits
from weightvault.store.catalogue.files.mirrors import find_mirror, list_mirrors

NAME = "org/model"
WEIGHTS = random.Random(1).randbytes(300_000)
FILES = {
    "README.md": b"# A model\n",
    "config.json": b'{"model_type": "none"}',
    "empty.txt": b"",
    "nested/merges.txt": b"a b\n",
    "weights.bin": WEIGHTS,
}
SERVER_TOKEN = "hf_serverserverserverserverserverserver"


@dataclass
class Front:
    """A mirror, its vault and a client of it."""

    url: str
    vault: LocalVault
    web: httpx.Client
    mirror: Mirror

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.web.get(path, **options)

    def whole(self, files: Mapping[str, bytes] = FILES, headers: Mapping[str, str] = {}) -> str:
        """Reads all files of the repo as a client does; returns the commit."""
        sha = self.get(f"/api/models/{NAME}/revision/main", headers=headers).json()["sha"]
        tree = self.get(f"/api/models/{NAME}/tree/{sha}?recursive=true", headers=headers).json()
        assert {e["path"] for e in tree if e["type"] == "file"} == set(files)
        assert not any("xetHash" in entry for entry in tree)
        for path, data in files.items():
            answer = self.get(f"/{NAME}/resolve/{sha}/{path}", headers=headers)
            assert answer.status_code == 200, answer.text
            assert answer.content == data
            assert answer.headers["x-repo-commit"] == sha
        return sha


@pytest.fixture
def upstream() -> Iterator[ReplayedHub]:
    with replayed_hub() as hub:
        hub.repos[NAME] = Repo(FILES)
        yield hub


@pytest.fixture
def open_front(tmp_path: Path, upstream: ReplayedHub) -> Callable[..., Any]:
    @contextmanager
    def start(
        name: str = "front", reads: str = "none", tokens: bool = False, **options: Any
    ) -> Iterator[Front]:
        vault = open_local(tmp_path / name)
        if tokens:
            create_token(vault, "first", "admin")
        options = {"hosts": ("127.0.0.1",), "refresh_seconds": 0.0, **options}
        settings = UpstreamSettings(options.pop("url", upstream.url), **options)
        app = create_app(vault, ServerSettings(anonymous_reads=reads, upstream=settings))
        with serving(app) as url, httpx.Client(base_url=url, timeout=30) as web:
            yield Front(url, vault, web, app.state.mirror)
        vault.close()

    return start


def committed(front: Front, repo: str = NAME) -> bool:
    return front.vault.catalogue.has_repo(repo) and not front.mirror.fetches.busy_with(repo)


def test_a_repo_is_fetched_at_first_use_and_stays(
    open_front: Callable[..., Any], upstream: ReplayedHub
):
    upstream.page = 2
    with open_front() as front:
        sha = front.whole()
        assert sha == upstream.repos[NAME].sha
        wait_until(lambda: committed(front))
        found = front.vault.resolve(NAME, "main")
        assert found.commit.id == sha == front.vault.resolve(NAME, "v1").commit.id
        assert {entry.path for entry in found.manifest.files} == set(FILES)
        assert History(front.vault, IncomingFiles(front.vault)).is_public(NAME)
        assert front.get(f"/api/models/{NAME}").json()["mirroredFrom"] == upstream.url
        (line,) = front.get("/api/models").json()
        assert (line["id"], line["mirroredFrom"]) == (NAME, upstream.url)
        upstream.asked.clear()
        front.whole()
        # Asked for what may have changed, not for a byte of a file.
        assert not upstream.asked_for("/resolve/")
        head = front.web.head(f"/{NAME}/resolve/{sha}/weights.bin")
        assert head.headers["content-length"] == str(len(WEIGHTS))
        part = front.get(f"/{NAME}/resolve/main/weights.bin", headers={"Range": "bytes=5-9"})
        assert (part.status_code, part.content) == (206, WEIGHTS[5:10])
        pointer = front.get(f"/{NAME}/raw/main/weights.bin").text
        assert f"size {len(WEIGHTS)}\n" in pointer
        asked = {"paths": ["nested", "weights.bin", "none"]}
        lines = front.web.post(f"/api/models/{NAME}/paths-info/main", json=asked).json()
        assert [line["path"] for line in lines] == ["nested", "weights.bin"]


def test_what_was_fetched_is_there_without_the_upstream(tmp_path: Path):
    with replayed_hub() as hub:
        hub.repos[NAME] = Repo(FILES)
        vault = open_local(tmp_path / "front")
        settings = UpstreamSettings(hub.url, hosts=("127.0.0.1",), refresh_seconds=0.0)
        app = create_app(vault, ServerSettings(upstream=settings))
        with serving(app) as url, httpx.Client(base_url=url) as web:
            front = Front(url, vault, web, app.state.mirror)
            front.whole()
            wait_until(lambda: committed(front))
    # The catalogue forgets what the upstream said: the commit is enough.
    for rebuilt in (False, True):
        if rebuilt:
            rebuild_catalogue(vault.backend, vault.catalogue)
            continue
        app = create_app(vault, ServerSettings(upstream=settings))
        with serving(app) as url, httpx.Client(base_url=url, timeout=30) as web:
            Front(url, vault, web, app.state.mirror).whole()
            assert web.get("/api/models/org/none").status_code == 502
    assert find_mirror(vault.catalogue, NAME) is None
    with replayed_hub() as hub:
        # Another address is another hub: the repo is an ordinary one then.
        settings = UpstreamSettings(hub.url, refresh_seconds=0.0)
        app = create_app(vault, ServerSettings(upstream=settings))
        with serving(app) as url, httpx.Client(base_url=url) as web:
            assert web.get(f"/{NAME}/resolve/main/weights.bin").content == WEIGHTS
            assert not hub.asked
    vault.close()


def test_a_new_commit_of_the_upstream_is_seen(
    open_front: Callable[..., Any], upstream: ReplayedHub
):
    with open_front() as front:
        first = front.whole()
        wait_until(lambda: committed(front))
        upstream.repos[NAME] = Repo({**FILES, "README.md": b"# Changed\n"})
        second = front.whole({**FILES, "README.md": b"# Changed\n"})
        assert second != first
        wait_until(lambda: front.vault.resolve(NAME, "main").commit.id == second)
        assert front.get(f"/{NAME}/resolve/{first}/README.md").content == FILES["README.md"]
        assert len(upstream.asked_for("/weights.bin")) == 2  # The redirect and the file, once.


@pytest.mark.parametrize("cuts", [1, 3])
def test_a_file_that_breaks_off_goes_on_where_it_stopped(
    open_front: Callable[..., Any], upstream: ReplayedHub, cuts: int
):
    with open_front() as front:
        upstream.cut_after, upstream.cuts = 100_000 // cuts, cuts
        assert front.get(f"/{NAME}/resolve/main/weights.bin").content == WEIGHTS
        step, last = upstream.cut_after, len(WEIGHTS) - 1
        parts = [f"bytes={number * step}-{last}" for number in range(1, cuts + 1)]
        assert upstream.ranges == ["", *parts]


def test_what_does_not_hash_to_what_was_said_is_never_whole(
    open_front: Callable[..., Any], upstream: ReplayedHub
):
    with open_front() as front:
        upstream.spoiled = True
        with pytest.raises(httpx.RemoteProtocolError):
            front.get(f"/{NAME}/resolve/main/weights.bin")
        # Nothing of a short one is sent.
        assert front.get(f"/{NAME}/resolve/main/README.md").status_code == 502
        assert not list(front.vault.scratch.glob("mirror/*"))
        upstream.spoiled = False
        front.whole()


def test_an_upstream_that_dies_in_a_file_leaves_what_came_for_later(
    open_front: Callable[..., Any], upstream: ReplayedHub, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("weightvault.api.mirror.fetches._MOST_PAUSE_SECONDS", 0.1)
    with open_front() as front:
        upstream.cut_after, upstream.cuts = 0, 9
        sha = front.get(f"/api/models/{NAME}").json()["sha"]
        front.get(f"/api/models/{NAME}/tree/{sha}")
        assert front.get(f"/{NAME}/resolve/{sha}/weights.bin").status_code == 502
        upstream.cut_after, upstream.cuts = 200_000, 1
        with pytest.raises(httpx.HTTPError):
            front.get(f"/{NAME}/resolve/{sha}/weights.bin")
        assert not list_mirrors(front.vault.catalogue)[0].files
        # The rest is asked for, and nothing else.
        upstream.ranges.clear()
        assert front.get(f"/{NAME}/resolve/{sha}/weights.bin").content == WEIGHTS
        assert upstream.ranges == [f"bytes=200000-{len(WEIGHTS) - 1}"]


def test_tokens_go_to_the_upstream_alone(open_front: Callable[..., Any], upstream: ReplayedHub):
    with open_front(token=SERVER_TOKEN) as front:
        front.whole()
        assert {token for host, _, _, token in upstream.asked if host == "hub"} == {SERVER_TOKEN}
        assert {token for host, _, _, token in upstream.asked if host == "cdn"} == {None}
        wait_until(lambda: committed(front))
        answers = [front.get(p) for p in (f"/api/models/{NAME}", f"/{NAME}/resolve/main/README.md")]
        assert not any(SERVER_TOKEN in f"{a.headers}{a.text}" for a in answers)


def test_a_private_repo_is_for_those_whose_token_may_read_it(
    open_front: Callable[..., Any], upstream: ReplayedHub
):
    upstream.repos[NAME] = Repo(FILES, readers={"hf_mine", SERVER_TOKEN})
    mine, theirs = ({"Authorization": f"Bearer hf_{who}"} for who in ("mine", "theirs"))
    with open_front() as front:
        assert front.get(f"/api/models/{NAME}", headers=theirs).status_code == 404
        front.whole(headers=mine)
        wait_until(lambda: committed(front))
        paths = (
            f"/api/models/{NAME}",
            f"/{NAME}/resolve/main/README.md",
            f"/{NAME}",
            f"/v1/repos/{NAME}",
        )
        for path in (*paths, f"/v1/repos/{NAME}/files/README.md"):
            assert front.get(path, headers=mine).status_code == 200, path
            for headers in (theirs, {}):
                answer = front.get(path, headers=headers)
                assert answer.status_code in (401, 404), (path, headers)
                assert "A model" not in answer.text
        assert front.get("/api/models", headers=theirs).json() == []


def test_with_tokens_of_our_own_that_of_the_upstream_has_a_header(
    open_front: Callable[..., Any], upstream: ReplayedHub
):
    upstream.repos[NAME] = Repo(FILES, readers={"hf_mine", SERVER_TOKEN})
    with open_front(token=SERVER_TOKEN, tokens=True) as front:
        whole = create_token(front.vault, "whole", "read").secret
        limited = create_token(front.vault, "limited", "admin", "org").secret
        path = f"/{NAME}/resolve/main/README.md"

        def status(token: str | None, theirs: str | None = None) -> int:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            headers |= {TOKEN_HEADER: theirs} if theirs else {}
            return front.get(path, headers=headers).status_code

        # Without a token of ours nothing is fetched, whatever is shown of theirs.
        assert status(None) == status(None, "hf_mine") == 401
        assert not upstream.asked
        assert status(limited) == 401
        assert status(limited, "hf_other") == 404
        assert status(limited, "hf_mine") == 200
        # The server's token stands for those who may read everything, and for no other.
        assert status(whole) == 200
        assert status(whole, "hf_other") == 404
        assert status(limited) == 401
        assert not any(whole in f"{each}" or limited in f"{each}" for each in upstream.asked)


def test_a_repo_that_becomes_private_is_not_for_everybody_any_more(
    open_front: Callable[..., Any], upstream: ReplayedHub
):
    with open_front("front", "public", tokens=True) as front:
        front.whole()
        wait_until(lambda: committed(front))
        upstream.repos[NAME].readers = {"hf_mine"}
        assert front.get(f"/{NAME}/resolve/main/README.md").status_code == 401
        assert front.get(f"/{NAME}").status_code in (401, 404)
        shown = {TOKEN_HEADER: "hf_mine"}
        assert front.get(f"/{NAME}/resolve/main/README.md", headers=shown).status_code == 200


def test_a_gate_is_passed_on(open_front: Callable[..., Any], upstream: ReplayedHub):
    upstream.repos[NAME] = Repo(FILES, readers={"hf_mine"}, gated=True)
    with open_front() as front:
        for headers, status in (({}, 401), ({"Authorization": "Bearer hf_other"}, 403)):
            answer = front.get(f"/{NAME}/resolve/main/config.json", headers=headers)
            assert answer.status_code == status
            assert answer.headers["x-error-code"] == "GatedRepo"
            assert "restricted" in answer.headers["x-error-message"]
        front.whole(headers={"Authorization": "Bearer hf_mine"})


def test_rate_limits_are_passed_on_and_waited_for(
    open_front: Callable[..., Any], upstream: ReplayedHub
):
    with open_front() as front:
        upstream.limited, upstream.retry_after = 1, 77
        answer = front.get(f"/api/models/{NAME}")
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "77")
        sha = front.get(f"/api/models/{NAME}").json()["sha"]
        front.get(f"/api/models/{NAME}/tree/{sha}")
        # What is known is said, and a file waits for as long as it is told to.
        upstream.limited, upstream.retry_after = 4, 1
        assert front.get(f"/{NAME}/resolve/{sha}/README.md").content == FILES["README.md"]
        assert upstream.limited == 0


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:1",
        "http://localhost:1",
        "http://10.0.0.1",
        "http://169.254.169.254",
        "http://[::ffff:127.0.0.1]",
        "http://[64:ff9b::7f00:1]",
        "http://[2002:7f00:1::]",
        "http://[fe80::1]",
        "http://0x7f000001",
        "http://224.0.0.1",
    ],
)
def test_private_addresses_are_refused(target: str):
    url = httpx.URL(target)
    with pytest.raises(UnsafeAddress):
        find_public_address(url.host, url.port or 80)
    assert find_public_address("93.184.215.14", 80) == "93.184.215.14"


@pytest.mark.parametrize("target", ["file:///etc/x", "ftp://a.example/x", "http://a.example/x"])
def test_a_redirect_leads_to_files_behind_tls_alone(target: str):
    with pytest.raises(UnsafeAddress):
        check_target(httpx.URL("https://hub.example/x"), httpx.URL(target))


def test_it_is_not_led_to_private_addresses(open_front: Callable[..., Any], upstream: ReplayedHub):
    with open_front(hosts=()) as front:
        asked = len(upstream.ranges)
        answer = front.get(f"/{NAME}/resolve/main/weights.bin")
        assert answer.status_code == 502
        assert "127.0.0.1" not in answer.text
        assert len(upstream.ranges) == asked
        # Small files come from the upstream itself, which is the operator's to name.
        assert front.get(f"/{NAME}/resolve/main/config.json").status_code == 200


def test_names_of_ones_own_are_not_asked_for(open_front: Callable[..., Any], upstream: ReplayedHub):
    upstream.repos["acme/mine"] = upstream.repos["acme/secret"] = Repo(FILES)
    with open_front(deny=("acme/secret*",), allow=("acme/*", "org/*")) as front:
        history = History(front.vault, IncomingFiles(front.vault))
        history.create_repo("acme/mine", Message("first"))
        assert front.get("/api/models/acme/mine").json()["siblings"] == []
        for name in ("acme/secret", "acme/secret-2", "other/model", "Org/model"):
            assert front.get(f"/api/models/{name}").status_code == 404
        assert not upstream.asked
        assert front.get(f"/api/models/{NAME}").status_code == 200
        # A copy changes with its upstream alone.
        made = {"name": "model", "organization": "org"}
        assert front.web.post("/api/repos/create", json=made).status_code == 403
        line = {"key": "header", "value": {"summary": "x"}}
        commit = front.web.post(f"/api/models/{NAME}/commit/main", content=json.dumps(line))
        assert commit.status_code == 403


def test_those_used_longest_ago_make_room(open_front: Callable[..., Any], upstream: ReplayedHub):
    upstream.repos["org/second"] = Repo({"weights.bin": WEIGHTS[::-1], "README.md": b"# 2\n"})
    with open_front(size_bytes=len(WEIGHTS) + 100_000) as front:
        front.whole()
        wait_until(lambda: committed(front))
        front.get("/org/second/resolve/main/weights.bin")
        wait_until(lambda: not committed(front))
        wait_until(
            lambda: [m.row.repo for m in list_mirrors(front.vault.catalogue)] == ["org/second"]
        )
        # It comes again when it is asked for, and what is too large is refused.
        upstream.repos["org/large"] = Repo({"large.bin": bytes(500_000)})
        assert front.get("/org/large/resolve/main/large.bin").status_code == 413
        front.whole()


def test_quotas_and_the_audit_log_hold(
    open_front: Callable[..., Any], upstream: ReplayedHub, caplog: pytest.LogCaptureFixture
):
    with open_front() as front, caplog.at_level(logging.INFO, AUDIT_LOGGER):
        set_limits(front.vault, "org", Limits(logical=1000))
        assert front.get(f"/{NAME}/resolve/main/weights.bin").status_code == 413
        assert front.get(f"/{NAME}/resolve/main/README.md").status_code == 200
        wait_until(lambda: len([r for r in caplog.records if r.name == AUDIT_LOGGER]) == 2)
    told = [(r.event, r.path, r.outcome) for r in caplog.records if r.name == AUDIT_LOGGER]  # type: ignore[attr-defined]
    assert told == [("mirror", "weights.bin", "failed"), ("mirror", "README.md", "done")]


@pytest.mark.parametrize(
    "answer",
    [
        {"sha": "../../x", "private": False},
        {"sha": "a" * 40, "private": False},
        {"private": False},
    ],
)
def test_an_upstream_that_talks_nonsense_breaks_nothing(
    open_front: Callable[..., Any],
    upstream: ReplayedHub,
    answer: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
):
    with open_front() as front:
        monkeypatch.setattr(Repo, "sha", answer.get("sha"))
        upstream.repos[NAME] = Repo({"../../etc/passwd": b"x", "b": b"y"})
        found = front.get(f"/{NAME}/resolve/main/b")
        assert found.status_code in (404, 502), found.text


def test_a_second_weightvault_is_an_upstream(open_front: Callable[..., Any], tmp_path: Path):
    vault = open_local(tmp_path / "upstream")
    incoming = IncomingFiles(vault)
    history = History(vault, incoming)
    token = create_token(vault, "reader", "read").secret
    folder = tmp_path / "files"
    paths: dict[str, Path] = {}
    for number, (path, data) in enumerate(FILES.items()):
        paths[path] = folder / str(number)
        paths[path].parent.mkdir(exist_ok=True)
        paths[path].write_bytes(data)
    staged = dict(zip(paths, incoming.stage(paths, NAME), strict=True))
    history.copy_commit(NAME, "main", "c" * 40, staged, Message("first"))
    with serving(create_app(vault)) as url, open_front(url=url, token=token) as front:
        assert front.whole() == "c" * 40
        wait_until(lambda: committed(front))
        log = front.get(f"/api/models/{NAME}/commits/main").json()
        assert [(line["id"], line["title"]) for line in log] == [("c" * 40, "first")]
        assert front.get("/api/models/org/none").status_code == 404
    vault.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_clients_download_through_it(
    open_front: Callable[..., Any], upstream: ReplayedHub, tmp_path: Path, version: str
):
    with open_front() as front:
        env = client_environment(tmp_path / "home", {"HF_ENDPOINT": front.url})
        target = tmp_path / "copy"
        checked([hf(VERSIONS[version]), "download", NAME, "--local-dir", str(target)], env)
        assert {path: (target / path).read_bytes() for path in FILES} == FILES


def run(vault: Path, *words: str | Path) -> click.testing.Result:
    return click.testing.CliRunner().invoke(cli, ["--vault", str(vault), *map(str, words)])


def test_the_command_fetches_ahead(tmp_path: Path, upstream: ReplayedHub):
    vault, token = tmp_path / "vault", tmp_path / "token"
    token.write_text(f"{SERVER_TOKEN}\n")
    upstream.repos[NAME] = Repo(FILES, readers={SERVER_TOKEN})
    sha = upstream.repos[NAME].sha
    options = ("--upstream", upstream.url, "--upstream-host", "127.0.0.1")
    assert run(vault, "mirror", NAME, *options).exit_code != 0
    shown = ("--upstream-token-file", token)
    first = run(vault, "--json", "mirror", f"{NAME}@{sha}", *options, *shown)
    assert first.exit_code == 0, first.output
    (found,) = json.loads(first.stdout)["mirrored"]
    size = sum(map(len, FILES.values()))
    assert (found["commit"], found["files"], found["fetched_bytes"]) == (sha, len(FILES), size)
    second = run(vault, "mirror", NAME, *options, *shown)
    assert "0 files" in second.output, second.output
    listed = run(vault, "mirror")
    assert all(text in listed.output for text in (NAME, upstream.url, "as there"))
    pulled = run(vault, "pull", NAME, tmp_path / "copy")
    assert pulled.exit_code == 0, pulled.output
    assert {p: (tmp_path / "copy" / p).read_bytes() for p in FILES} == FILES
    assert SERVER_TOKEN not in f"{first.output}{second.output}{listed.output}"
    assert run(vault, "mirror", NAME).exit_code == 2
    assert run(vault, "mirror", "org/none", *options).exit_code != 0
    assert run("http://127.0.0.1:1", "mirror", NAME, *options).exit_code == 4  # type: ignore[arg-type]


def test_options_without_a_hub_are_refused(tmp_path: Path):
    refused = run(tmp_path / "vault", "serve", "--upstream-allow", "org/*", "--port", "0")
    assert refused.exit_code == 4
    assert "--upstream" in refused.output
    (tmp_path / "token").write_text("two words")
    options = ("--upstream", "http://127.0.0.1:1", "--upstream-token-file", tmp_path / "token")
    assert "does not hold a token" in run(tmp_path / "vault", "serve", *options).output
