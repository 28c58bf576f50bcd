"""What two tenants and their operator do on a server, and all that can be read there."""

from __future__ import annotations

import html
import re
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hub_requests import hub_path, sha256
from models import bf16_file, tune
from tenant_world import BASE, BLOBS, TEXTS, WEIGHTS, World
from tenants import Tenant

from weightvault.api.client.http_vault import HttpVault
from weightvault.api.protocol.wire import MAX_OFFERS
from weightvault.dedup.errors import VaultError
from weightvault.dedup.formats.scan import scan_files
from weightvault.dedup.maintenance.background_encode import encode_some
from weightvault.dedup.maintenance.gc import Collector
from weightvault.dedup.model.files.manifest import Manifest
from weightvault.dedup.model.files.segments import CHUNK_BYTES
from weightvault.dedup.progress import Progress
from weightvault.dedup.transfer.push import push


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
NAMES = (*NAMES, "alpha/model", "alpha/r0", "beta/Model", "alpha/MODEL", "pub/Base")
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
HUB = (*HUB, "/resolve/main/README.md", "/lfs-files", "/discussions/1")
NATIVE = ("", "/revision?tensors=true", "/manifest", "/tensors/layer.weight", "/refs", "/commits")
WHOLE = ("/v1/repos", "/api/models", "/api/models?search=a", "/api/models?author=alpha")
WHOLE = (*WHOLE, "/api/models?full=true&cardData=true", "/api/models?filter=license:mit")
WHOLE = (*WHOLE, "/api/models?sort=created_at", "/api/models?num_parameters=min:1")
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
WHOLE = (*WHOLE, "/", "/v1/bills")
# Names without a namespace, which nothing has.
BARE = ("resolve/main/config.json", "raw/main/config.json", "info/lfs/locks")
KINDS = ("", "/models", "/datasets", "/spaces")
WHOLE = (*WHOLE, *(f"{kind}/gpt2/{part}" for kind in KINDS for part in BARE))
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
