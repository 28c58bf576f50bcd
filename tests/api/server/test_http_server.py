"""The endpoints, each against a real vault in a folder."""

import json
from pathlib import Path

import httpx
import pytest
from blake3 import blake3
from models import read_folder
from vaults import open_local

from weightvault.api.protocol.wire import MAX_DIGESTS, split_frames
from weightvault.api.server.app import create_app, endpoints
from weightvault.api.v1.report_schemas import ReportSchema, RowSchema
from weightvault.api.v1.schemas import CheckSchema, CommitSchema, RepoInfoSchema, RepoSummarySchema
from weightvault.dedup import vault as results
from weightvault.dedup.errors import Corrupt, Unreachable
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.model import report as reports
from weightvault.dedup.model.files.manifest import pack_manifest, parse_manifest
from weightvault.dedup.transfer.push import push

REPO = "/v1/repos/org/model"


@pytest.fixture
def pushed(local: LocalVault, model: Path) -> results.Commit:
    """A commit of the model in the vault that is served."""
    return push(local, model, "org/model").commit


def read_frames(web: httpx.Client, digests: list[bytes], revision: str = "main") -> list[bytes]:
    body = {"digests": [d.hex() for d in digests]}
    response = web.post(f"{REPO}/frames", params={"revision": revision}, json=body)
    assert response.status_code == 200, response.text
    return list(split_frames(iter([response.content]), len(digests)))


def test_the_endpoints() -> None:
    app = create_app(LocalVault.__new__(LocalVault))
    assert endpoints(app) == {
        ("GET", "/health"),
        ("POST", "/v1/missing"),
        ("POST", "/v1/bases"),
        ("PUT", "/v1/packs/{name}"),
        ("DELETE", "/v1/repos/{namespace}/{name}/branches/{branch}"),
        ("DELETE", "/v1/repos/{namespace}/{name}/tags/{tag}"),
        ("GET", "/v1/repos/{namespace}/{name}/commits"),
        ("GET", "/v1/repos/{namespace}/{name}/refs"),
        ("POST", "/v1/repos/{namespace}/{name}/move"),
        ("PUT", "/v1/repos/{namespace}/{name}/branches/{branch}"),
        ("PUT", "/v1/repos/{namespace}/{name}/tags/{tag}"),
        ("POST", "/v1/repos/{namespace}/{name}/commits"),
        ("POST", "/v1/repos/{namespace}/{name}/commits/check"),
        ("GET", "/v1/repos"),
        ("GET", "/v1/repos/{namespace}/{name}"),
        ("DELETE", "/v1/repos/{namespace}/{name}"),
        ("GET", "/v1/repos/{namespace}/{name}/revision"),
        ("GET", "/v1/repos/{namespace}/{name}/manifest"),
        ("POST", "/v1/repos/{namespace}/{name}/frames"),
        ("GET", "/v1/repos/{namespace}/{name}/files/{path}"),
        ("HEAD", "/v1/repos/{namespace}/{name}/files/{path}"),
        ("GET", "/v1/repos/{namespace}/{name}/tensors/{tensor}"),
        ("GET", "/metrics"),
        ("GET", "/v1/report"),
        ("GET", "/v1/what-if/rm"),
        ("GET", "/v1/check"),
        ("GET", "/v1/families"),
        ("POST", "/v1/jobs"),
        ("GET", "/v1/jobs"),
        ("GET", "/v1/jobs/{job}"),
        ("DELETE", "/v1/jobs/{job}"),
        ("GET", "/v1/bills"),
        ("GET", "/v1/quotas"),
        ("GET", "/v1/retention"),
        ("POST", "/v1/repos/{namespace}/{name}/forget"),
        ("GET", "/v1/tokens"),
        ("DELETE", "/v1/tokens/{token}"),
    }


def test_every_endpoint_is_described(web: httpx.Client) -> None:
    assert web.get("/docs").status_code == 200
    for methods in web.get("/openapi.json").json()["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
            assert operation["description"]


@pytest.mark.parametrize(
    ("schema", "result"),
    [
        (CommitSchema, results.Commit),
        (RepoSummarySchema, results.RepoSummary),
        (RepoInfoSchema, results.RepoInfo),
        (ReportSchema, reports.Report),
        (RowSchema, reports.Row),
        (CheckSchema, results.CheckResult),
    ],
)
def test_schemas_carry_every_field_of_the_results(schema, result) -> None:
    assert set(result.__dataclass_fields__) <= set(schema.model_fields)


def test_health(web: httpx.Client, local: LocalVault, monkeypatch: pytest.MonkeyPatch) -> None:
    assert web.get("/health").json()["status"] == "ok"

    def fail() -> None:
        raise Unreachable("the bucket does not answer")

    monkeypatch.setattr(local, "check_health", fail)
    response = web.get("/health")
    assert response.status_code == 503
    assert response.json()["problem"] == "the bucket does not answer"


def test_frames_go_from_one_vault_into_another(
    web: httpx.Client, server, local: LocalVault, pushed: results.Commit, tmp_path: Path
) -> None:
    pack = next(p for p in (tmp_path / "served" / "objects" / "packs").rglob("*") if p.is_file())
    manifest = local.resolve("org/model").manifest
    digests = [d.hex() for d in manifest.digests()]
    second = open_local(tmp_path / "second")
    server.switch(second)
    assert web.post("/v1/missing", json={"digests": digests}).json() == {"missing": digests}
    path = f"{REPO}/commits"
    refused = web.post(path, content=pack_manifest(manifest))
    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "chunks_missing"
    added = web.put(f"/v1/packs/{pack.name}", content=pack.read_bytes())
    assert added.json() == {"added": len(digests)}
    assert web.post("/v1/missing", json={"digests": digests}).json() == {"missing": []}
    made = web.post(path, params={"branch": "dev/x"}, content=pack_manifest(manifest)).json()
    assert made["branch"] == "dev/x"
    assert second.resolve("org/model", "dev/x").manifest == manifest
    second.close()


def test_a_pack_under_a_wrong_name_is_refused(web: httpx.Client) -> None:
    response = web.put(f"/v1/packs/{'0' * 64}", content=b"not a pack")
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_frame"


def test_digests_are_bounded_in_number_and_form(web: httpx.Client) -> None:
    many = {"digests": ["0" * 64] * (MAX_DIGESTS + 1)}
    assert web.post("/v1/missing", json=many).status_code == 422
    assert web.post("/v1/missing", json={"digests": ["0" * 64] * MAX_DIGESTS}).status_code == 200
    for bad in ("", "0" * 63, "G" * 64, "0" * 65, "A" * 64):
        assert web.post("/v1/missing", json={"digests": [bad]}).status_code == 422


@pytest.mark.parametrize("body", [b"", b"junk", b"\x89WVM" + b"\xff" * 16])
def test_a_bad_manifest_is_refused(web: httpx.Client, body: bytes) -> None:
    response = web.post(f"{REPO}/commits", content=body)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_manifest"
    assert web.get("/v1/repos").json() == []


def test_list_describe_delete(web: httpx.Client, pushed: results.Commit) -> None:
    assert [r["name"] for r in web.get("/v1/repos").json()] == ["org/model"]
    described = web.get(REPO).json()
    assert described["branches"] == {"main": pushed.id}
    assert [f["path"] for f in described["files"]] == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    deleted = web.delete(REPO)
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert web.delete(REPO).status_code == 404
    assert web.get("/v1/repos").json() == []


@pytest.mark.parametrize("name", ["-a/b", "a/b..c", "a/.b", "a/%20", "a%2Fb/c", "a/b%00"])
def test_names_that_are_not_allowed(web: httpx.Client, name: str) -> None:
    code = web.get(f"/v1/repos/{name}").json()["error"]["code"]
    assert code in ("invalid_name", "unknown_endpoint")


@pytest.mark.parametrize("revision", ["../x", "a//b", "-x", "x" * 300])
def test_revisions_that_are_not_allowed(
    web: httpx.Client, pushed: results.Commit, revision: str
) -> None:
    response = web.get(f"{REPO}/revision", params={"revision": revision})
    assert response.json()["error"]["code"] == "invalid_name"


def test_revision(web: httpx.Client, pushed: results.Commit, model: Path) -> None:
    for revision in ("main", pushed.id):
        found = web.get(f"{REPO}/revision", params={"revision": revision}).json()
        assert found["commit"]["id"] == pushed.id
    weights = found["files"][2]
    assert weights["blake3"] == blake3((model / "model.safetensors").read_bytes()).hexdigest()
    assert sum(weights["segments"][k] for k in ("literal", "opaque", "tensors")) == weights["size"]
    assert weights["tensor_list"] == []
    listed = web.get(f"{REPO}/revision", params={"tensors": True}).json()["files"][2]
    assert [t["name"] for t in listed["tensor_list"]] == [
        "embed.weight",
        "layer.0.weight",
        "layer.0.bias",
    ]
    missing = web.get(f"{REPO}/revision", params={"revision": "other"})
    assert missing.json()["error"]["code"] == "revision_not_found"


def test_manifest(web: httpx.Client, local: LocalVault, pushed: results.Commit) -> None:
    response = web.get(f"{REPO}/manifest")
    assert parse_manifest(response.content) == local.resolve("org/model").manifest
    assert json.loads(response.headers["x-weightvault-commit"])["id"] == pushed.id
    assert response.headers["etag"] == f'"{blake3(response.content).hexdigest()}"'


def test_frames(web: httpx.Client, local: LocalVault, pushed: results.Commit) -> None:
    digests = list(local.resolve("org/model").manifest.digests())
    expected = list(local.read_frames("org/model", "main", digests))
    assert read_frames(web, digests) == expected
    assert read_frames(web, digests[::-1] + digests) == expected[::-1] + expected
    assert read_frames(web, []) == []


def test_frames_of_other_repos_are_not_given(
    web: httpx.Client, local: LocalVault, pushed: results.Commit, tmp_path: Path
) -> None:
    (tmp_path / "secret.bin").write_bytes(b"secret" * 100)
    push(local, tmp_path / "secret.bin", "org/private")
    secret = next(iter(local.resolve("org/private").manifest.digests()))
    response = web.post(f"{REPO}/frames", json={"digests": [secret.hex()]})
    assert response.status_code == 409
    assert response.json()["error"]["code"] == "chunks_missing"


def test_a_damaged_store_is_an_error_before_the_first_byte(
    web: httpx.Client, local: LocalVault, pushed: results.Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_: object):
        raise Corrupt("the frame is damaged")
        yield b""

    monkeypatch.setattr(local, "read_frames", damaged)
    response = web.post(f"{REPO}/frames", json={"digests": ["0" * 64]})
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "corrupt"


def test_report_and_check(web: httpx.Client, pushed: results.Commit, model: Path) -> None:
    report = web.get("/v1/report", params={"by": ["repo", "dtype"], "top": 1}).json()
    assert report["logical"] == sum(map(len, read_folder(model).values()))
    by_repo, by_dtype = report["breakdowns"]
    assert [row["name"] for row in by_repo["rows"]] == ["org/model"]
    assert by_repo["rows"][0]["billed"] == report["frames"]
    assert (by_dtype["rows"][0]["name"], by_dtype["count"]) == ("BF16", 2)
    assert by_dtype["others"]["name"] == "(1 others)"
    assert web.get("/v1/check").json()["problems"] == []
