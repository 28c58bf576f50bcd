"""No way in leads past a quota, and who is refused is told so in the words of their protocol."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click.testing
import httpx
import pytest
from fastapi import FastAPI
from hub_requests import sha256
from models import make_weights, write_model
from tenants import Tenant, make_tenant
from vaults import open_anew, open_local

from weightvault.api.cli.main import cli
from weightvault.api.hub.attributes import FIRST_ATTRIBUTES
from weightvault.api.requests.quotas import Quotas
from weightvault.api.requests.settings import ServerSettings
from weightvault.api.server.app import create_app
from weightvault.dedup.errors import QuotaExceeded
from weightvault.dedup.maintenance.quotas import describe_quota, set_limits
from weightvault.dedup.model.report import Query
from weightvault.store.catalogue.access.limits import Limits

DATA = random.Random(1).randbytes(60_000)
# Of the files that a repo begins with.
FIRST = len(FIRST_ATTRIBUTES)
OTHER = random.Random(2).randbytes(60_000)


@pytest.fixture
def me(shared_app: FastAPI) -> Tenant:
    return make_tenant(shared_app, "me")


def native_push(me: Tenant, folder: Path, data: bytes) -> httpx.Response:
    """Pushes until it fails or is done; returns the last answer."""
    folder.mkdir(exist_ok=True)
    (folder / "data.bin").write_bytes(data)
    with suppress(QuotaExceeded):
        me.push(folder, "me/model")
    return me.heard[-1]


def commit_inline(me: Tenant, _folder: Path, data: bytes) -> httpx.Response:
    return me.commit("me/model", {"data.bin": data})


def commit_uploaded(me: Tenant, _folder: Path, data: bytes) -> httpx.Response:
    sent = me.upload("me/model", data)
    if sent is not None and sent.status_code != 200:
        return sent
    return me.commit("me/model", uploaded={"data.bin": data})


def commit_xet(me: Tenant, _folder: Path, data: bytes) -> httpx.Response:
    sent = me.upload_xet("me/model", data)
    if sent.status_code != 200:
        return sent
    return me.commit("me/model", uploaded={"data.bin": data})


WAYS_IN = [native_push, commit_inline, commit_uploaded, commit_xet]
Way = Callable[[Tenant, Path, bytes], httpx.Response]


@pytest.mark.parametrize("way", WAYS_IN)
@pytest.mark.parametrize("limits", [Limits(stored=80_000), Limits(logical=80_000)])
def test_no_commit_takes_more_than_is_left(
    shared_app: FastAPI, me: Tenant, tmp_path: Path, way: Way, limits: Limits
):
    me.create("me/model")
    set_limits(shared_app.state.vault, "me", limits)
    assert way(me, tmp_path / "first", DATA).status_code == 200
    refused = way(me, tmp_path / "second", OTHER)
    found = describe_quota(shared_app.state.vault, "me").usage
    assert 60_000 <= found.stored < 62_000
    if refused.request.url.path.endswith("/batch"):
        assert refused.json()["objects"][0]["error"]["code"] == 507
    else:
        assert refused.status_code == 413 or "never uploaded" in refused.text
    if refused.request.url.path.startswith("/v1/"):
        assert refused.json()["error"]["code"] == "quota_exceeded"
    # The same content again takes nothing.
    assert way(me, tmp_path / "first", DATA).status_code == 200


def test_clients_of_hubs_are_told_in_headers(shared_app: FastAPI, me: Tenant):
    me.create("me/model")
    set_limits(shared_app.state.vault, "me", Limits(stored=1000))
    refused = me.commit("me/model", {"data.bin": DATA})
    assert refused.status_code == 413
    assert refused.headers["x-error-code"] == "QuotaExceeded"
    assert "me may have 1000 bytes of distinct content" in refused.headers["x-error-message"]


def test_git_lfs_is_told_per_object_before_anything_is_sent(shared_app: FastAPI, me: Tenant):
    me.create("me/model")
    set_limits(shared_app.state.vault, "me", Limits(logical=1000 + FIRST))
    line = me.batch("me/model", DATA)
    assert "actions" not in line
    assert line["error"]["code"] == 507
    assert me.batch("me/model", b"short")["actions"]["upload"]


@pytest.mark.parametrize("way", WAYS_IN)
def test_what_is_on_its_way_is_limited(shared_app: FastAPI, me: Tenant, tmp_path: Path, way: Way):
    me.create("me/model")
    set_limits(shared_app.state.vault, "me", Limits(in_flight=50_000))
    refused = way(me, tmp_path / "first", DATA)
    assert refused.status_code in (400, 413), refused.text
    vault = shared_app.state.vault
    assert describe_quota(vault, "me").in_flight <= 50_000
    assert describe_quota(vault, "me").usage.stored == FIRST
    assert not any(vault.scratch.glob("upload-*"))


def test_what_waits_for_a_commit_counts_as_on_its_way(shared_app: FastAPI, me: Tenant):
    me.create("me/model")
    set_limits(shared_app.state.vault, "me", Limits(in_flight=100_000))
    sent = me.upload("me/model", DATA)
    assert sent is not None
    assert sent.status_code == 200
    assert me.batch("me/model", OTHER)["error"]["code"] == 507
    assert me.commit("me/model", uploaded={"data.bin": DATA}).status_code == 200
    assert me.batch("me/model", OTHER)["actions"]["upload"]


def test_parts_of_long_files_count_until_the_last_is_there(tmp_path: Path):
    vault = open_local(tmp_path / "served")
    app = create_app(vault, ServerSettings(multipart_bytes=1 << 20, part_bytes=1 << 20))
    me = make_tenant(app, "me")
    me.create("me/model")
    set_limits(vault, "me", Limits(in_flight=4 << 20))
    data, other = (random.Random(seed).randbytes(5 << 19) for seed in (3, 4))
    asked = {
        "operation": "upload",
        "transfers": ["multipart", "basic"],
        "objects": [{"oid": sha256(data), "size": len(data)}],
    }
    answer = me.web.post("/me/model.git/info/lfs/objects/batch", json=asked).json()
    action = answer["objects"][0]["actions"]["upload"]
    size = int(action["header"]["chunk_size"])
    parts = {int(name): href for name, href in action["header"].items() if name.isdecimal()}
    assert len(parts) > 1
    for number, href in parts.items():
        part = data[(number - 1) * size : number * size]
        assert me.web.put(href, content=part).status_code == 200
    assert me.batch("me/model", other)["error"]["code"] == 507
    assert me.web.post(action["href"], json={}).status_code == 200
    assert me.commit("me/model", uploaded={"data.bin": data}).status_code == 200
    assert "error" not in me.batch("me/model", other)
    vault.close()


def test_repos_are_counted_of_every_kind(shared_app: FastAPI, me: Tenant):
    set_limits(shared_app.state.vault, "me", Limits(repos=2))
    assert me.create("me/one").status_code == 200
    assert me.create("me/two", type="dataset").status_code == 200
    refused = me.create("me/three")
    assert (refused.status_code, refused.headers["x-error-code"]) == (413, "QuotaExceeded")
    assert me.web.delete("/v1/repos/me/one").status_code == 204
    assert me.create("me/three").status_code == 200


class Clock:
    """A clock that tests set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(shared_app: FastAPI) -> Clock:
    clock = Clock()
    shared_app.state.quotas = Quotas(shared_app.state.vault, clock=clock)
    return clock


def test_requests_are_limited_by_the_minute(shared_app: FastAPI, me: Tenant, clock: Clock):
    you = make_tenant(shared_app, "you")
    set_limits(shared_app.state.vault, "me", Limits(requests_per_minute=6))
    statuses = [me.web.get("/v1/repos").status_code for _ in range(8)]
    assert statuses == [200] * 6 + [429] * 2
    refused = me.heard[-1]
    assert refused.json()["error"]["code"] == "rate_exceeded"
    assert refused.headers["retry-after"] == "10"
    assert me.web.get("/api/models").status_code == 429
    assert me.web.get("/").status_code == 429
    assert you.web.get("/v1/repos").status_code == 200
    clock.now += 10
    assert [me.web.get("/v1/repos").status_code for _ in range(2)] == [200, 429]


def test_checking_is_limited_by_the_minute(shared_app: FastAPI, me: Tenant, clock: Clock):
    me.create("me/model")
    set_limits(shared_app.state.vault, "me", Limits(cpu_seconds_per_minute=0))
    clock.now += 10
    refused = me.commit("me/model", {"data.bin": DATA})
    assert (refused.status_code, refused.headers["x-error-code"]) == (429, "RateExceeded")
    assert int(refused.headers["retry-after"]) > 0
    set_limits(shared_app.state.vault, "me", Limits(cpu_seconds_per_minute=60))
    clock.now += 10
    assert me.commit("me/model", {"data.bin": DATA}).status_code == 200


def test_the_server_keeps_a_reserve_of_free_disk(tmp_path: Path):
    vault = open_local(tmp_path / "served")
    me = make_tenant(create_app(vault, ServerSettings(reserve_bytes=1 << 60)), "me")
    me.create("me/model")
    refused = me.commit("me/model", {"data.bin": DATA})
    assert refused.status_code == 507
    assert str(tmp_path) not in refused.text
    assert me.web.get("/api/models/me/model").status_code == 200
    vault.close()


def test_quotas_outlive_a_lost_catalogue(tmp_path: Path):
    vault = open_local(tmp_path / "served")
    set_limits(vault, "me", Limits(stored=5))
    set_limits(vault, "you", Limits(repos=1))
    set_limits(vault, "you", Limits())
    vault.close()
    again = open_anew(tmp_path / "served")
    assert describe_quota(again, "me").limits == Limits(stored=5)
    assert not describe_quota(again, "you").limits.any()
    again.close()


def test_quotas_by_command(tmp_path: Path):
    def run(*words: str) -> dict:
        where = ["--vault", str(tmp_path / "vault"), "--json", "quota"]
        done = click.testing.CliRunner().invoke(cli, [*where, *words])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    model = write_model(tmp_path / "model", make_weights(1))
    cli_run = click.testing.CliRunner().invoke
    where = ["--vault", str(tmp_path / "vault")]
    assert cli_run(cli, [*where, "push", str(model), "me/model"]).exit_code == 0
    run("set", "me", "--stored", "10M", "--repos", "3", "--cpu-seconds-per-minute", "30")
    found = run("set", "me", "--repos", "none", "--logical", "1.5G")
    limits = {name: most for name, most in found["limits"].items() if most is not None}
    assert limits == {
        "stored": 10 << 20,
        "logical": 3 << 29,
        "cpu_seconds_per_minute": 30,
    }
    table = cli_run(cli, [*where, "report", "--by", "namespace"]).stdout
    assert "may: stored" in table
    assert "10.0 MiB" in table
    assert found["usage"]["repos"] == 1
    assert found["usage"]["stored"] > 0
    assert [each["namespace"] for each in run("show")["quotas"]] == ["me"]
    run("remove", "me")
    assert run("show")["quotas"] == []


def test_a_tenant_is_shown_its_own_quotas_alone(shared_app: FastAPI, me: Tenant):
    vault = shared_app.state.vault
    you, root = make_tenant(shared_app, "you"), make_tenant(shared_app, None, "read")
    nobody = Tenant(shared_app, None, None)
    me.create("me/model")
    me.commit("me/model", {"data.bin": DATA})
    set_limits(vault, "me", Limits(stored=123_456_789, repos=7))
    set_limits(vault, "other", Limits(stored=1))
    (quota,) = me.web.get("/v1/quotas").json()
    assert (quota["namespace"], quota["limits"]["stored"]) == ("me", 123_456_789)
    assert quota["usage"]["stored"] == 60_000 + FIRST
    assert you.web.get("/v1/quotas").json() == nobody.web.get("/v1/quotas").json() == []
    assert [q["namespace"] for q in root.web.get("/v1/quotas").json()] == ["me", "other"]
    assert "117.7 MiB" in me.web.get("/").text
    assert "Quotas" not in you.web.get("/").text
    assert "117.7 MiB" in root.web.get("/-/storage").text


def test_quotas_are_in_reports(shared_app: FastAPI, me: Tenant):
    root = make_tenant(shared_app, None, "read")
    you = make_tenant(shared_app, "you")
    for tenant in (me, you):
        tenant.create(f"{tenant.namespace}/model")
        tenant.commit(f"{tenant.namespace}/model", {"data.bin": DATA})
    set_limits(shared_app.state.vault, "me", Limits(stored=123_456_789))
    report = root.web.get("/v1/report?by=namespace").json()
    rows = {row["name"]: row for row in report["breakdowns"][0]["rows"]}
    assert rows["me"]["quota"]["stored"] == 123_456_789
    assert rows["you"]["quota"] is None
    # What the quota is held against, by the same count.
    assert rows["me"]["unique"] == describe_quota(shared_app.state.vault, "me").usage.stored
    assert root.vault().report(Query(("namespace",))).breakdown("namespace").rows
