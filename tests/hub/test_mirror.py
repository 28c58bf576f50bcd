"""A mirror in front of a hub that answers as the public one does."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click.testing
import httpx
import pytest
from hub_clients import VERSIONS, checked, client_environment, hf
from live_server import serving, wait_until
from mirror_front import FILES, NAME, SERVER_TOKEN, WEIGHTS, Front, committed
from replayed_hub import ReplayedHub, Repo, replayed_hub
from vaults import open_local

from weightvault.api.cli.main import cli
from weightvault.api.requests.audit import AUDIT_LOGGER
from weightvault.api.requests.settings import ServerSettings, UpstreamSettings
from weightvault.api.requests.tokens import create_token
from weightvault.api.server.app import create_app
from weightvault.dedup.maintenance.quotas import set_limits
from weightvault.dedup.maintenance.rebuild_catalogue import rebuild_catalogue
from weightvault.dedup.transfer.refs import History, Message
from weightvault.dedup.transfer.uploads import IncomingFiles
from weightvault.store.catalogue.access.limits import Limits
from weightvault.store.catalogue.files.mirrors import find_mirror, list_mirrors


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
