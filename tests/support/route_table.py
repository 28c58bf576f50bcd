"""Every route of a server with the right that it shall need, written down by hand: what an
application declares is held against it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

from fastapi import FastAPI

from weightvault.api.requests.access import routes_of
from weightvault.api.web.addresses import RESERVED
from weightvault.store.repo_names import RepoName

Need = Literal[
    "nothing",  # anybody, with whatever credentials
    "own",  # anybody: the answer has what they may read
    "token",  # any token
    "read",  # to read the repo
    "write",  # to change the repo, which is there
    "commit",  # to commit to the repo, there or not
    "push",  # to write somewhere
    "delete in body",  # as "write", of a repo that the body names
    "create in body",  # as "commit", likewise
    "read all",
    "write all",
    "grant",  # something signed
]

_OID = "a" * 64
_DEFAULTS = {
    "rev": "main",
    "path": "README.md",
    "rest": "main",
    "tensor": "t",
    "oid": _OID,
    "number": "1",
    "generation": "0" * 16,
    "prefix": "default",
    "hash": _OID,
    "token": "0123abcd",
}
_BATCH = {"operation": "download", "objects": [{"oid": _OID, "size": 3}]}
_UPLOAD = _BATCH | {"operation": "upload"}


@dataclass(frozen=True, slots=True)
class Route:
    """A route: method, pattern as it is declared, what it needs, and what a request sends: `json`,
    or bytes; of a repo that the body names {name}, {namespace} and {type} are put in."""

    method: str
    pattern: str
    need: Need
    body: Any = None
    defaults: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        return self.method, self.pattern

    def takes(self, repo: str) -> bool:
        """Says whether there is an address of this route for a repo of that name."""
        fixed = "/{namespace}/{name}" in self.pattern
        # What is at the top of the server already is no page of a repo.
        at_top = re.match("/{(namespace|page|git)}", self.pattern)
        if at_top and RepoName.of(repo).namespace in RESERVED:
            return False
        return not fixed or ("{kind}" in self.pattern) == (RepoName.of(repo).kind != "models")

    def address(self, repo: str, *, encode: bool = False) -> str:
        """Returns the address for a repo; with `encode` each letter of its name is encoded."""
        named = RepoName.of(repo)
        spell = _encode if encode else quote
        given = {"namespace": spell(named.namespace), "name": spell(named.name)}
        both = f"{given['namespace']}/{given['name']}"
        page = both if named.kind == "models" else f"{named.kind}/{both}"
        given |= {"repo": both, "page": page, "git": f"{page}.git", "kind": named.kind}
        given = _DEFAULTS | given | self.defaults
        return re.sub(r"{(\w+)\*?}", lambda match: given[match[1]], self.pattern)

    def options(self, repo: str) -> dict[str, Any]:
        """Returns what httpx is to send besides."""
        if isinstance(self.body, bytes):
            return {"content": self.body}
        if self.body is None:
            return {}
        named = RepoName.of(repo)
        kind = {"models": "model", "datasets": "dataset", "spaces": "space"}[named.kind]
        text = json.dumps(self.body).replace("{name}", named.name)
        text = text.replace("{namespace}", named.namespace).replace("{type}", kind)
        return {"json": json.loads(text)}


_NAMED = {"name": "{name}", "organization": "{namespace}", "type": "{type}"}
_HUB = "/api/{kind}/{repo}"
_LFS = "/{git}/info/lfs"
_XET = "/-/xet/{generation}"
_TREE = {"rest": "main/sub"}
_BRANCH = {"name": "dev"}

_HUB_ROUTES = (
    Route("POST", f"{_LFS}/objects/batch", "read", _BATCH),
    Route("PUT", f"{_LFS}/objects/{{oid}}", "grant", b"abc"),
    Route("GET", f"{_LFS}/objects/{{oid}}", "read"),
    Route("HEAD", f"{_LFS}/objects/{{oid}}", "read"),
    Route("PUT", f"{_LFS}/parts/{{oid}}/{{number}}", "grant", b"abc"),
    Route("POST", f"{_LFS}/parts/{{oid}}", "grant", {}),
    Route("POST", f"{_LFS}/verify", "write", {"oid": _OID, "size": 3}),
    Route("GET", f"{_LFS}/locks", "read"),
    Route("POST", f"{_LFS}/locks", "read", {}),
    Route("GET", f"{_LFS}/locks/{{rest*}}", "read"),
    Route("POST", f"{_LFS}/locks/{{rest*}}", "read", {}),
    Route("GET", "/api/whoami-v2", "token"),
    Route("POST", "/api/validate-yaml", "nothing", {"content": "x"}),
    Route("POST", "/api/repos/create", "create in body", _NAMED),
    Route("DELETE", "/api/repos/delete", "delete in body", _NAMED),
    Route(
        "POST",
        "/api/repos/move",
        "delete in body",
        {"fromRepo": "{namespace}/{name}", "toRepo": "{namespace}/{name}-moved", "type": "{type}"},
    ),
    Route("GET", "/api/{kind}", "own"),
    Route("GET", _HUB, "read"),
    Route("HEAD", _HUB, "read"),
    Route("PUT", f"{_HUB}/settings", "write", {"private": True}),
    Route("GET", f"{_HUB}/auth-check", "read"),
    Route("GET", f"{_HUB}/revision/{{rev}}", "read"),
    Route("GET", f"{_HUB}/tree/{{rev}}", "read"),
    Route("GET", f"{_HUB}/tree/{{rev}}/{{path*}}", "read"),
    Route("POST", f"{_HUB}/paths-info/{{rev}}", "read", {"paths": ["README.md"]}),
    Route("GET", f"{_HUB}/refs", "read"),
    Route("GET", f"{_HUB}/commits/{{rev}}", "read"),
    Route("POST", f"{_HUB}/preupload/{{rev}}", "write", {"files": [{"path": "x", "size": 1}]}),
    Route("POST", f"{_HUB}/commit/{{rev}}", "write", b"not a line\n"),
    Route("POST", f"{_HUB}/branch/{{name*}}", "write", {}, _BRANCH),
    Route("DELETE", f"{_HUB}/branch/{{name*}}", "write", None, _BRANCH),
    Route("POST", f"{_HUB}/tag/{{rev}}", "write", {"tag": "v1"}),
    Route("DELETE", f"{_HUB}/tag/{{rev}}", "write", None, {"rev": "v1"}),
    Route("POST", f"{_HUB}/super-squash/{{rev}}", "write", {}),
    Route("GET", f"{_HUB}/lfs-files", "read"),
    Route("POST", f"{_HUB}/lfs-files/batch", "write", {"deletions": {"sha": [_OID]}}),
    Route("POST", f"{_HUB}/discussions", "write", {"pullRequest": True}),
    Route("GET", f"{_HUB}/discussions/{{number}}", "read", None, {"number": "1"}),
    # To read it, and to make the copy that the body names.
    Route("POST", f"{_HUB}/duplicate", "write", {"repository": "{namespace}/{name}-copy"}),
    Route("GET", "/api/settings/repositories", "token"),
    Route("GET", "/api/organizations/{namespace}/settings/repositories", "token"),
    Route("GET", f"{_HUB}/resolve/{{rev}}/{{path*}}", "read"),
    Route("GET", "/api/telemetry/{rest*}", "nothing"),
    Route("HEAD", "/api/telemetry/{rest*}", "nothing"),
    Route("POST", "/api/telemetry/{rest*}", "nothing", {}),
    Route("GET", "/api/agent-harnesses", "nothing"),
    *(
        Route(
            method, f"{kind}/{{bare}}/{part}/{{rev}}/{{path*}}", "nothing", None, {"bare": "gpt2"}
        )
        for method in ("GET", "HEAD")
        for kind in ("", "/datasets", "/spaces")
        for part in ("resolve", "raw")
    ),
    *(
        Route(method, f"{kind}/{{bare}}/info/lfs/{{rest*}}", "nothing", None, {"bare": "gpt2.git"})
        for method in ("GET", "HEAD", "POST", "PUT")
        for kind in ("", "/datasets", "/spaces")
    ),
    *(
        Route(method, f"/{{page}}/{page}/{{rev}}/{{path*}}", "read")
        for method in ("GET", "HEAD")
        for page in ("resolve", "raw")
    ),
    Route("GET", f"{_HUB}/xet-write-token/{{rev}}", "write"),
    Route("GET", f"{_HUB}/xet-read-token/{{rev}}", "read"),
    Route("POST", f"{_XET}/v1/xorbs/{{prefix}}/{{hash}}", "grant", b"x"),
    Route("POST", f"{_XET}/v1/xorb-grants/{{prefix}}/{{hash}}", "grant", {}),
    Route("GET", f"{_XET}/v1/chunks/{{prefix}}/{{hash}}", "grant"),
    Route("POST", f"{_XET}/v1/shards", "grant", b"x"),
    Route("POST", f"{_XET}/v2/shards", "grant", b"x"),
    *(
        Route(method, "/api/{rest*}", "nothing", None, {"rest": "nowhere"})
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH")
    ),
)

_V1_ROUTES = (
    Route("POST", "/v1/telemetry", "nothing", {}),
    Route("POST", "/v1/missing", "push", {"digests": []}),
    Route("POST", "/v1/bases", "push", {"sketches": []}),
    Route("PUT", "/v1/packs/{name}", "push", b"no pack", {"name": _OID}),
    Route("GET", "/v1/repos", "own"),
    Route("GET", "/v1/families", "read all"),
    Route("POST", "/v1/jobs", "write all", {"kind": "optimise", "dry_run": True}),
    Route("GET", "/v1/jobs", "write all"),
    Route("GET", "/v1/jobs/{job}", "write all", None, {"job": "0" * 32}),
    Route("DELETE", "/v1/jobs/{job}", "write all", None, {"job": "0" * 32}),
    Route("GET", "/v1/check", "read all"),
    Route("GET", "/v1/report", "read all"),
    Route("GET", "/v1/what-if/rm", "read all"),
    Route("GET", "/v1/quotas", "own"),
    Route("GET", "/v1/retention", "own"),
    Route("GET", "/v1/bills", "own"),
    Route("GET", "/v1/tokens", "token"),
    Route("DELETE", "/v1/tokens/{token}", "token"),
)

_PAGES = (
    Route("GET", "/openapi.json", "nothing"),
    Route("HEAD", "/openapi.json", "nothing"),
    Route("GET", "/docs", "nothing"),
    Route("GET", "/health", "nothing"),
    Route("GET", "/metrics", "read all"),
    Route("GET", "/", "own"),
    Route("GET", "/-/storage", "read all"),
    Route("GET", "/-/storage/report.csv", "read all"),
    Route("GET", "/-/storage/bill.csv", "read all"),
    Route("GET", "/-/sign-in", "own"),
    Route("POST", "/-/sign-in", "nothing"),
    Route("POST", "/-/sign-out", "nothing"),
)


def _of_repos() -> Iterator[Route]:
    for prefix in ("/v1/repos/", "/v1/repos/{kind}/"):
        base = prefix + "{namespace}/{name}"
        yield Route("POST", f"{base}/commits/check", "commit")
        yield Route("POST", f"{base}/commits", "commit", b"no manifest")
        yield Route("GET", base, "read")
        yield Route("DELETE", base, "write")
        yield Route("GET", f"{base}/revision", "read")
        yield Route("GET", f"{base}/refs", "read")
        yield Route("GET", f"{base}/commits", "read")
        for kind in ("branch", "tag"):
            path = f"{base}/{'branches' if kind == 'branch' else 'tags'}/{{{kind}}}"
            yield Route("PUT", path, "write", None, {kind: "dev"})
            yield Route("DELETE", path, "write", None, {kind: "dev"})
        yield Route("POST", f"{base}/move", "write")
        yield Route("POST", f"{base}/forget", "write")
        yield Route("GET", f"{base}/manifest", "read")
        yield Route("POST", f"{base}/frames", "read", {"digests": []})
        yield Route("GET", f"{base}/files/{{path}}", "read")
        yield Route("HEAD", f"{base}/files/{{path}}", "read")
        yield Route("GET", f"{base}/tensors/{{tensor}}", "read")
    for prefix in ("/", "/{kind}/"):
        base = prefix + "{namespace}/{name}"
        for page in ("", "/tensors", "/family", "/commits"):
            yield Route("GET", base + page, "read")
        for page in ("tree", "blob", "tensors", "commits", "download", "image"):
            defaults = {"rest": "main/README.md"} if page in ("blob", "download", "image") else {}
            yield Route("GET", f"{base}/{page}/{{rest}}", "read", None, defaults)


ROUTES = (*_HUB_ROUTES, *_V1_ROUTES, *_PAGES, *_of_repos())
"""All of them. An LFS batch of an upload needs more than its route says: UPLOAD_BATCH."""

UPLOAD_BATCH = Route("POST", f"{_LFS}/objects/batch", "write", _UPLOAD)


def _encode(text: str) -> str:
    return "".join(f"%{ord(character):02x}" for character in text)


def declared(app: FastAPI) -> set[tuple[str, str]]:
    """Returns method and pattern of every route of an application but that of static files."""
    found: set[tuple[str, str]] = set()
    for route in routes_of(app):
        pattern = getattr(route, "pattern", None) or getattr(route, "path_format", "")
        found |= {(method, pattern) for method in getattr(route, "methods", None) or ()}
    return found
