"""Nothing that a tenant sees depends on what others keep private.

One tenant goes through a fixed list of things that can be done and read. What they are answered,
all of it, is the same with and without a second tenant who does anything in between: with the same
content, with content that is nearly the same, and with cards that name the first one's repos.
"""

from __future__ import annotations

import html
import json
import os
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import hypothesis.strategies as st
import pytest
from fastapi import FastAPI
from hub_requests import hub_path, sha256
from hypothesis import HealthCheck, example, given, settings
from models import bf16_file, make_weights, tune
from starlette.routing import Match
from tenants import Tenant, make_tenant
from vaults import open_local

from weightvault.api.client.http_vault import HttpVault
from weightvault.api.protocol.wire import MAX_OFFERS
from weightvault.api.requests.access import routes_of
from weightvault.api.requests.settings import ServerSettings
from weightvault.api.server.app import create_app
from weightvault.api.web import front
from weightvault.dedup.errors import VaultError
from weightvault.dedup.formats.scan import scan_files
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.background_encode import encode_some
from weightvault.dedup.maintenance.gc import Collector
from weightvault.dedup.model.files.manifest import Manifest
from weightvault.dedup.model.files.segments import CHUNK_BYTES
from weightvault.dedup.progress import Progress
from weightvault.dedup.transfer.push import push

EXAMPLES = int(os.environ.get("WEIGHTVAULT_TEST_TENANT_EXAMPLES", "0"))

SHAPES = {"embed.weight": (48, 64), "layer.weight": (64, 64), "layer.bias": (64,)}
# Files of the store have real times, which a collection compares with this one.
START = float(int(time.time()))
STEP_SECONDS = 100.0

BASE = make_weights(1, SHAPES)
CARD = "---\nlicense: mit\nbase_model: {base}\n---\n# A model\n\n{text}\n"
TEXT = "The number is 7391, and the rest of it is known. " * 12


def card(base: str, text: str = TEXT) -> bytes:
    """A model card that names a base."""
    return CARD.format(base=base, text=text).encode()


# What both tenants draw from: the same bytes, near relatives, texts with small edits.
MODELS = [
    BASE,
    tune(BASE, 2),
    tune(BASE, 3),
    BASE | {"layer.bias": make_weights(4, SHAPES)["layer.bias"]},
]
WEIGHTS = [bf16_file(model) for model in MODELS]
TEXTS = [card("alpha/model"), card("beta/model"), card("pub/base"), card("alpha/model", TEXT[1:])]
BLOBS = [random.Random(5).randbytes(30_000), random.Random(6).randbytes(30_000)]


class Heard(list[list[Any]]):
    """Answers, step by step; short in messages, where it would be megabytes."""

    def __repr__(self) -> str:
        return f"<{len(self)} steps>"


class Clock:
    """The time of day: it goes on with the first tenant's steps alone."""

    now = START

    def __call__(self) -> float:
        return self.now


@contextmanager
def frozen(clock: Clock) -> Iterator[None]:
    """Within, that is the time, and pages of the list are short."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(time, "time", clock)
        # So that lists have several pages.
        patched.setattr(front, "PAGE", 2)
        yield


@dataclass
class World:
    """A server with two tenants, somebody without a token, and its operator."""

    root: Path
    vault: LocalVault
    app: FastAPI
    alpha: Tenant
    beta: Tenant
    nobody: Tenant
    kept: dict[str, Any] = field(default_factory=dict)

    def folder(self, name: str, files: dict[str, bytes]) -> Path:
        """A folder of files."""
        path = self.root / name
        path.mkdir(exist_ok=True)
        for old in path.iterdir():
            old.unlink()
        for file, data in files.items():
            (path / file).write_bytes(data)
        return path


@contextmanager
def open_world() -> Iterator[World]:
    """A server where a public base is and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        vault = open_local(root / "served")
        app = create_app(vault, ServerSettings(anonymous_reads="public"))
        beta, alpha = make_tenant(app, "beta"), make_tenant(app, "alpha")
        pub, nobody = make_tenant(app, "pub"), Tenant(app, None, None)
        for tenant in (beta, nobody):
            tenant.web.headers["X-Request-Id"] = "fixed"
        world = World(root, vault, app, alpha, beta, nobody)
        base = {"model.safetensors": WEIGHTS[0], "README.md": card("none/none")}
        pub.push(world.folder("pub", base), "pub/base")
        pub.web.put("/api/models/pub/base/settings", json={"private": False})
        yield world
        vault.close()


# What the first tenant does. Each is one step; the second one acts between them.


def beta_pushes(world: World) -> None:
    files = {"model.safetensors": WEIGHTS[1], "README.md": TEXTS[0], "data.bin": BLOBS[0]}
    world.beta.push(world.folder("beta", files), "beta/model")


def beta_commits(world: World) -> None:
    world.beta.create("beta/hub")
    world.beta.commit("beta/hub", {"README.md": TEXTS[0], "notes/a.txt": TEXTS[3]})


def beta_makes_data(world: World) -> None:
    world.beta.create("datasets/beta/data")
    world.beta.commit("datasets/beta/data", {"README.md": TEXTS[2], "data.bin": BLOBS[0]})


def beta_uploads(world: World) -> None:
    world.beta.upload("beta/hub", WEIGHTS[3])
    world.beta.commit("beta/hub", uploaded={"model.safetensors": WEIGHTS[3]})


def beta_sends_xorbs(world: World) -> None:
    world.beta.upload_xet("beta/hub", BLOBS[1])
    world.beta.commit("beta/hub", uploaded={"data/blob.bin": BLOBS[1]})


def beta_tunes(world: World) -> None:
    files = {"model.safetensors": WEIGHTS[2], "README.md": TEXTS[1]}
    world.beta.push(world.folder("tune", files), "beta/tune", base="pub/base")


def beta_edits(world: World) -> None:
    edited = TEXTS[0].replace(b"7391", b"7392")
    world.beta.commit("beta/hub", {"README.md": edited})
    world.beta.push(world.folder("edit", {"README.md": edited}), "beta/model")


def beta_breaks_off(world: World) -> None:
    """A push that ends before its commit."""

    class Interrupted(Exception):
        pass

    def refuse(*_: object, **__: object) -> None:
        raise Interrupted

    vault = world.beta.vault()
    vault.commit = refuse  # type: ignore[method-assign]
    with suppress(Interrupted):
        push(vault, world.folder("half", {"data.bin": TEXTS[2] * 9}), "beta/half")


def beta_deletes(world: World) -> None:
    world.beta.web.delete("/v1/repos/beta/tune")


def operator_codes(world: World) -> None:
    while encode_some(world.vault):
        pass


def operator_collects(world: World) -> None:
    Collector(world.vault, grace_seconds=0, now=time.time).run()


def operator_optimises(world: World) -> None:
    cursor: int | None = 0
    while cursor is not None:
        cursor = world.vault.optimise(cursor).cursor


NAMES = ("beta/model", "beta/hub", "beta/tune", "datasets/beta/data", "pub/base")
NAMES = (*NAMES, "alpha/model", "alpha/r0")
PAGES = ("", "/tree/main", "/blob/main/README.md", "/tensors", "/tensors/main", "/family")
PAGES = (*PAGES, "/commits", "/commits/main", "/download/main/README.md", "/raw/main/README.md")
PAGES = (*PAGES, "/image/main/README.md")
HUB = (
    "",
    "?blobs=true",
    "/auth-check",
    "/revision/main",
    "/tree/main?recursive=true&expand=true",
    "/refs",
)
HUB = (*HUB, "/commits/main", "/xet-read-token/main", "/tree/main/notes")
HUB = (*HUB, "/resolve/main/README.md", "/lfs-files")
NATIVE = ("", "/revision?tensors=true", "/manifest", "/tensors/layer.weight", "/refs", "/commits")
WHOLE = ("/v1/repos", "/api/models", "/api/models?search=a", "/api/models?author=alpha")
WHOLE = (*WHOLE, "/?order=name", "/?q=model", "/-/storage", "/v1/report", "/v1/families")
WHOLE = (
    *WHOLE,
    "/v1/jobs",
    f"/v1/jobs/{0:032x}",
    "/v1/check",
    "/v1/what-if/rm?repo=alpha/model",
    "/metrics",
)
WHOLE = (*WHOLE, "/api/whoami-v2", "/health", "/openapi.json", "/v1/quotas", "/v1/retention")
WHOLE = (*WHOLE, "/api/settings/repositories")
WHOLE = (*WHOLE, "/api/organizations/alpha/settings/repositories")
WHOLE = (*WHOLE, "/", "/gpt2/resolve/main/config.json", "/v1/bills")
WHOLE = (*WHOLE, "/-/storage/report.csv", "/-/storage/bill.csv")


def beta_reads(world: World) -> None:
    """Everything there is to read, of all repos, with and without a token."""
    for tenant in (world.beta, world.nobody):
        for path in WHOLE:
            tenant.web.get(path)
        while older := re.search(r'rel="next" href="([^"]+)"', tenant.heard[-1].text):
            tenant.web.get(html.unescape(older[1]))
        for repo in NAMES if tenant is world.beta else ("pub/base", "alpha/model"):
            read_repo(tenant, repo)
    for repo in ("beta/model", "datasets/beta/data", "alpha/model"):
        read_frames(world.beta, repo)
    for data in BLOBS:
        world.beta.ask_xet("beta/model", data)
    probe(world.beta)


def read_repo(tenant: Tenant, repo: str) -> None:
    get = tenant.web.get
    for page in PAGES:
        get(f"/{repo}{page}")
    for path in HUB:
        get(f"{hub_path(repo)}{path}")
    for path in NATIVE:
        get(f"/v1/repos/{repo}{path}")
    for file in ("README.md", "model.safetensors", "data.bin"):
        get(f"/v1/repos/{repo}/files/{file}")
        tenant.web.head(f"/v1/repos/{repo}/files/{file}")
        get(f"/{repo}/resolve/main/{file}")
        tenant.web.head(f"/{repo}/resolve/main/{file}")
    tenant.web.post(f"/v1/repos/{repo}/commits/check")
    asked = {"paths": ["README.md", "model.safetensors"], "expand": True}
    tenant.web.post(f"{hub_path(repo)}/paths-info/main", json=asked)
    wanted = [{"path": "model.safetensors", "size": len(WEIGHTS[0]), "sample": ""}]
    tenant.web.post(f"{hub_path(repo)}/preupload/main", json={"files": wanted})
    objects = [{"oid": sha256(data), "size": len(data)} for data in (*WEIGHTS, *BLOBS)]
    for operation in ("upload", "download"):
        asked = {"operation": operation, "objects": objects}
        tenant.web.post(f"/{repo}.git/info/lfs/objects/batch", json=asked)
    for asked in objects:
        tenant.web.post(f"/{repo}.git/info/lfs/verify", json=asked)
        get(f"/{repo}.git/info/lfs/objects/{asked['oid']}")


def read_frames(tenant: Tenant, repo: str) -> None:
    """Frames of all chunks, one by one: what a client that decodes them itself is sent, which tells
    of chunks that it has, or of none."""
    pool = [digest.hex() for manifest in scan_pool() for digest in manifest.digests()]
    for at, digest in enumerate(pool):
        others = (pool[:at] + pool[at + 1 :])[:MAX_OFFERS]
        for offers in ({}, {"offers": {digest: others}}):
            tenant.web.post(f"/v1/repos/{repo}/frames", json={"digests": [digest], **offers})


def probe(tenant: Tenant) -> None:
    """What a push asks, of all chunks there are."""
    for manifest in scan_pool():
        body = {"digests": [digest.hex() for digest in manifest.digests()]}
        tenant.web.post("/v1/missing", json=body)
    with suppress(VaultError):
        vault: HttpVault = tenant.vault()
        vault.find_bases(list(POOL_SKETCHES.values()))


POOL_SKETCHES: dict = {}
_POOL: list[Manifest] = []


def scan_pool() -> list[Manifest]:
    """The manifests of all that tenants draw from."""
    if not _POOL:
        with tempfile.TemporaryDirectory() as folder:
            for number, data in enumerate((*WEIGHTS, *TEXTS, *BLOBS)):
                path = Path(folder, f"{number}.safetensors" if data in WEIGHTS else f"{number}")
                path.write_bytes(data)
                _POOL.append(scan_files({path.name: path}, Progress(), CHUNK_BYTES, POOL_SKETCHES))
    return _POOL


Step = Callable[[World], None]
STEPS: list[Step] = [
    beta_pushes,
    beta_commits,
    beta_makes_data,
    beta_reads,
    beta_uploads,
    beta_sends_xorbs,
    operator_codes,
    beta_tunes,
    beta_breaks_off,
    beta_reads,
    operator_optimises,
    beta_edits,
    operator_collects,
    operator_codes,
    beta_reads,
    beta_deletes,
    operator_collects,
    beta_reads,
]


# What the second tenant does in between.


def alpha_pushes(world: World, number: int, repo: str) -> None:
    files = {"model.safetensors": WEIGHTS[number % 4], "README.md": TEXTS[(number + 1) % 4]}
    files["data.bin"] = BLOBS[number % 2]
    world.alpha.push(world.folder("alpha", files), repo)


def alpha_commits(world: World, number: int, repo: str) -> None:
    world.alpha.create(repo)
    edited = TEXTS[number % 4].replace(b"7391", b"739%d" % number)
    world.alpha.commit(repo, {"README.md": edited, "notes/a.txt": TEXTS[number % 4]})


def alpha_uploads(world: World, number: int, repo: str) -> None:
    world.alpha.create(repo)
    world.alpha.upload(repo, WEIGHTS[number % 4])
    world.alpha.commit(repo, uploaded={"model.safetensors": WEIGHTS[number % 4]})


def alpha_sends_xorbs(world: World, number: int, repo: str) -> None:
    world.alpha.create(repo)
    world.alpha.upload_xet(repo, BLOBS[number % 2])
    world.alpha.commit(repo, uploaded={"data/blob.bin": BLOBS[number % 2]})


def alpha_floods(world: World, number: int, repo: str) -> None:
    """More near relatives than a push is told of as bases."""
    weights = {}
    for i in range(24):
        weights[f"{i}.weight"] = tune({"w": BASE["layer.weight"]}, 100 + i + number, 1e-4)["w"]
    world.alpha.push(world.folder("flood", {"model.safetensors": bf16_file(weights)}), repo)


def alpha_breaks_off(world: World, number: int, repo: str) -> None:
    world.alpha.create(repo)
    world.alpha.upload(repo, WEIGHTS[number % 4])


def alpha_deletes(world: World, _number: int, repo: str) -> None:
    world.alpha.web.delete(f"/v1/repos/{repo}")


def more_coding(world: World, _number: int, _repo: str) -> None:
    encode_some(world.vault)


def more_optimising(world: World, _number: int, _repo: str) -> None:
    operator_optimises(world)


def more_collecting(world: World, _number: int, _repo: str) -> None:
    Collector(world.vault, now=time.time).run()


ACTIONS = [alpha_pushes, alpha_commits, alpha_uploads, alpha_sends_xorbs, alpha_floods]
ACTIONS += [alpha_breaks_off]
ACTIONS += [alpha_deletes, more_coding, more_optimising, more_collecting]


@dataclass(frozen=True)
class Act:
    """Something that the second tenant does before a step of the first one."""

    before: int
    what: Callable[[World, int, str], None]
    number: int
    repo: str

    def __repr__(self) -> str:
        return f"{self.before}: {self.what.__name__}({self.number}, {self.repo})"


def transcript(acts: list[Act]) -> Heard:
    """What the first tenant and somebody without a token were answered, step by step."""
    clock, found = Clock(), Heard()
    with frozen(clock), open_world() as world:
        for number, step in enumerate(STEPS):
            for act in acts:
                if act.before == number:
                    act.what(world, act.number, act.repo)
            for tenant in (world.beta, world.nobody):
                tenant.heard.clear()
            clock.now += STEP_SECONDS
            step(world)
            heard = [*world.beta.heard, *world.nobody.heard]
            found.append([normalise(answer) for answer in heard])
    return found


# Drawn at random whatever is stored: the keys of signatures, and the names of Xet addresses.
_DRAWN = re.compile(
    r"(?<=token=)[A-Za-z0-9._%=-]+"
    r"|(?<=Bearer )[A-Za-z0-9._=-]+"
    r"|(?<=/-/xet/)[0-9a-f]{32}"
    r'|(?<="accessToken":")[^"]+'
)
_DRAWN_HEADERS = {"x-xet-access-token", "x-xet-cas-url"}


def normalise(answer: Any) -> list[Any]:
    """An answer without what is drawn at random."""
    headers = {n: "drawn" if n in _DRAWN_HEADERS else v for n, v in answer.headers.items()}
    request = answer.request
    sent = sha256(_DRAWN.sub("drawn", _text_of(request)).encode())
    asked = f"{request.method} {_DRAWN.sub('drawn', str(request.url))} {sent}"
    told = _DRAWN.sub("drawn", answer.content.decode("latin-1"))
    return [asked, answer.status_code, headers, told]


def _text_of(request: Any) -> str:
    """What a request sent; nothing where it went as a stream, whose hash is in the address."""
    try:
        return request.content.decode("latin-1")
    except httpx.RequestNotRead:
        return ""


def first_difference(one: Heard, other: Heard) -> str | None:
    """Where two transcripts part, as text; None where they do not."""
    for number, (left, right) in enumerate(zip(one, other, strict=True)):
        for mine, theirs in zip(left, right, strict=False):
            if mine != theirs:
                return f"step {number} {STEPS[number].__name__}:\n{mine}\n{theirs}"
        if len(left) != len(right):
            return f"step {number} {STEPS[number].__name__}: {len(left)} or {len(right)} answers"
    return None


@pytest.fixture(scope="module")
def alone() -> Heard:
    """The transcript where there is no second tenant."""
    return transcript([])


ACT = st.builds(
    Act,
    st.integers(0, len(STEPS) - 1),
    st.sampled_from(ACTIONS),
    st.integers(0, 7),
    st.sampled_from(["alpha/model", "alpha/r0", "alpha/r1"]),
)
EVERYTHING_FIRST = [Act(0, alpha_pushes, number, f"alpha/r{number}") for number in range(4)] + [
    Act(0, more_coding, 0, ""),
    Act(0, alpha_commits, 1, "alpha/model"),
]
EVERYTHING_BETWEEN = [
    Act(before, what, before, "alpha/model")
    for before in range(0, len(STEPS), 2)
    for what in ACTIONS
]


def test_the_first_tenant_sees_something(alone: Heard):
    """So that equal transcripts say something: most of what was asked was answered."""
    answers = [answer for step in alone for answer in step]
    good = [answer for answer in answers if answer[1] < 300]
    assert len(good) > 200
    assert json.dumps(alone).count("beta/model") > 100


# What answers everybody with the same, or tells of tokens alone.
_TELLS_NOTHING = re.compile(r"static|sign-in|docs|telemetry|locks|harnesses|/v1/tokens")


def test_everything_that_can_be_read_is(alone: Heard):
    """So that no route is added to be forgotten here."""
    asked = [answer[0].split()[:2] for step in alone for answer in step]
    paths = {urlsplit(url).path for method, url in asked if method == "GET"}
    scopes = [
        {"type": "http", "method": "GET", "path": path, "raw_path": path.encode()} for path in paths
    ]
    with open_world() as world:
        routes = [r for r in routes_of(world.app) if "GET" in (getattr(r, "methods", None) or ())]
    for route in routes:
        named = getattr(route, "path", None) or route.pattern
        seen = any(route.matches({**s, "headers": []})[0] is Match.FULL for s in scopes)
        assert seen or _TELLS_NOTHING.search(named), named


@example(EVERYTHING_FIRST)
@example(EVERYTHING_BETWEEN)
@given(acts=st.lists(ACT, max_size=12))
@settings(
    max_examples=EXAMPLES or 1,
    # The same one each time, unless more are asked for.
    derandomize=not EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_what_a_tenant_sees_does_not_depend_on_others(alone: Heard, acts: list[Act]):
    difference = first_difference(alone, transcript(acts))
    # Not the transcripts themselves, which are megabytes.
    if difference is not None:
        pytest.fail(difference)
