"""A vault behind an HTTP server, with the interface of any other vault."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote

import httpx
from blake3 import blake3
from pydantic import Field

from ...dedup.errors import AccessRefused, Unreachable
from ...dedup.model.bills import BillLine, MonthBill
from ...dedup.model.families import Family
from ...dedup.model.files.manifest import Manifest, pack_manifest, parse_manifest
from ...dedup.model.names import check_branch, check_path, check_revision
from ...dedup.model.report import BY_REPO, Comparison, Prediction, Query, Report
from ...dedup.model.sketch import Sketch
from ...dedup.progress import Progress
from ...dedup.vault import (
    Candidate,
    CheckResult,
    Commit,
    Offers,
    Optimised,
    PushTarget,
    RepoInfo,
    RepoSummary,
    Snapshot,
)
from ..errors import TooLarge
from ..protocol.following import follow
from ..protocol.token_info import TokenInfo
from ..protocol.wire import (
    COMMIT_HEADER,
    MAX_DIGESTS,
    MAX_MANIFEST_BODY_BYTES,
    MAX_PACK_BYTES,
    MAX_SKETCHES,
    REPOS_A_PAGE,
    split_frames,
)
from .bill_pages import BILL_PAGE, BillPage
from .http_jobs import run_job
from .http_ranges import read_range
from .http_refs import HttpRefs, repo_path
from .transport import MAX_ANSWER_BYTES, Answer, Transport

_T = TypeVar("_T")
_Item = TypeVar("_Item")

# Frames of one request: few enough that a broken connection repeats little.
_FRAMES_PER_REQUEST = 1000
# Five hundred sketches with a few candidates each, their names at full length.
MAX_JSON_ANSWER_BYTES = 1 << 24


_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class _Named:
    """A candidate as JSON has it."""

    digest: _Digest
    size: int
    predicted: int
    repo: str
    revision: str


# Of a bill; each has a thousand lines.
_MOST_PAGES = 1000


@dataclass(frozen=True)
class _Missing:
    """Digests that are not stored."""

    missing: list[_Digest]


@dataclass(frozen=True)
class _Bases:
    """Candidates for each sketch that was sent."""

    bases: list[list[_Named]]


@dataclass(frozen=True)
class _Added:
    """How many chunks of a pack were new."""

    added: int


class HttpVault(HttpRefs):
    """Implements dedup.vault.Vault over the server at `url`. Safe to use from several threads.

    Opening it does not connect. Besides what Vault promises, every method raises Unreachable when
    the server does not answer and InvalidInput when something else does.
    """

    def __init__(
        self, url: str, *, transport: Transport | None = None, token: str | None = None
    ) -> None:
        super().__init__(transport or Transport(url, token=token))

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()

    # The way in

    def find_missing(self, digests: Collection[bytes]) -> set[bytes]:
        """See Vault.find_missing."""
        missing: set[bytes] = set()
        for part in _parts(list(digests), MAX_DIGESTS):
            answer = self._transport.request("POST", "/v1/missing", json=_digests_json(part))
            found = self._parse(_Missing, answer)
            missing.update(bytes.fromhex(digest) for digest in found.missing)
        return missing & set(digests)

    def find_bases(self, sketches: Sequence[Sketch]) -> list[tuple[Candidate, ...]]:
        """See Vault.find_bases."""
        found: list[tuple[Candidate, ...]] = []
        for part in _parts(sketches, MAX_SKETCHES):
            body = {"sketches": [_sketch_json(sketch) for sketch in part]}
            answer = self._transport.request(
                "POST", "/v1/bases", json=body, most_bytes=MAX_JSON_ANSWER_BYTES
            )
            named = self._parse(_Bases, answer).bases
            if len(named) != len(part):
                raise Unreachable(f"{self.url} answered for {len(named)} of {len(part)} sketches")
            found.extend(tuple(map(_candidate, each)) for each in named)
        return found

    def for_owner(self, repo: str) -> PushTarget:
        """See Vault.for_owner: the server knows, and goes by it when the commit is made."""
        return self

    def check_commit(self, repo: str) -> None:
        """See Vault.check_commit."""
        self._transport.request("POST", f"{repo_path(repo)}/commits/check")

    def add_pack(self, path: Path, name: str) -> int:
        """See Vault.add_pack."""
        _check_size("pack", path.stat().st_size, MAX_PACK_BYTES)
        answer = self._transport.request("PUT", f"/v1/packs/{name}", file=path, slow=True)
        return self._parse(_Added, answer).added

    def commit(
        self,
        repo: str,
        branch: str,
        manifest: Manifest,
        *,
        base: str | None = None,
        message: str | None = None,
    ) -> Commit:
        """See Vault.commit."""
        body = pack_manifest(manifest)
        _check_size("manifest", len(body), MAX_MANIFEST_BODY_BYTES)
        told = {"base": base, "message": message}
        params = {"branch": check_branch(branch)} | {k: v for k, v in told.items() if v}
        path = f"{repo_path(repo)}/commits"
        answer = self._transport.request(
            "POST", path, params=params, content=body, repeatable=False, slow=True
        )
        return self._parse(Commit, answer)

    def delete_repo(self, repo: str) -> None:
        """See Vault.delete_repo."""
        self._transport.request("DELETE", repo_path(repo), repeatable=False, slow=True)

    # The way out

    def resolve(self, repo: str, revision: str = "main") -> Snapshot:
        """See Vault.resolve."""
        params = {"revision": check_revision(revision)}
        answer = self._transport.request(
            "GET",
            f"{repo_path(repo)}/manifest",
            params=params,
            most_bytes=MAX_MANIFEST_BODY_BYTES,
        )
        body = answer.body
        # The manifest names all other bytes of a pull, so it is the one thing to verify itself.
        if answer.headers.get("etag") != f'"{blake3(body).hexdigest()}"':
            raise Unreachable(f"the manifest from {self.url} was damaged on its way", "try again")
        commit = self._parse(Commit, answer, answer.headers.get(COMMIT_HEADER, ""))
        return Snapshot(commit, parse_manifest(body, stored=True))

    def read_frames(self, repo: str, revision: str, digests: Sequence[bytes]) -> Iterator[bytes]:
        """See Vault.read_frames."""
        return self._read_frames(repo, revision, digests, None)

    def read_offered(
        self, repo: str, revision: str, digests: Sequence[bytes], offers: Offers
    ) -> Iterator[bytes]:
        """See FarReader.read_offered."""
        return self._read_frames(repo, revision, digests, offers)

    def _read_frames(
        self, repo: str, revision: str, digests: Sequence[bytes], offers: Offers | None
    ) -> Iterator[bytes]:
        path = f"{repo_path(repo)}/frames"
        params = {"revision": check_revision(revision)}
        for part in _parts(digests, _FRAMES_PER_REQUEST):
            body = _digests_json(part)
            if offers is not None:
                told = {d.hex(): [each.hex() for each in offers[d]] for d in part if d in offers}
                body["offers"] = told
            with self._transport.stream("POST", path, params=params, json=body) as pieces:
                yield from split_frames(pieces, len(part))

    def read_range(
        self, repo: str, revision: str, path: str, start: int, stop: int
    ) -> Iterator[bytes]:
        """See Vault.read_range. Goes on where a connection broke, if bytes had come over it."""
        address = f"{repo_path(repo)}/files/{quote(check_path(path))}"
        return read_range(self._transport, address, check_revision(revision), start, stop)

    # Looking

    def list_repos(self) -> list[RepoSummary]:
        """See Vault.list_repos."""
        found: list[RepoSummary] = []
        names: set[str] = set()
        while True:
            params: dict[str, Any] = {"limit": REPOS_A_PAGE}
            if found:
                params["after"] = found[-1].name
            answer = self._transport.request(
                "GET", "/v1/repos", params=params, most_bytes=MAX_ANSWER_BYTES
            )
            page = self._parse(list[RepoSummary], answer)
            # A server from before there were pages answers with all repos each time.
            new = [repo for repo in page if repo.name not in names]
            names.update(repo.name for repo in new)
            found += new
            if len(new) != REPOS_A_PAGE:
                return found

    def describe_repo(self, repo: str) -> RepoInfo:
        """See Vault.describe_repo."""
        return self._parse(
            RepoInfo, self._transport.request("GET", repo_path(repo), most_bytes=MAX_ANSWER_BYTES)
        )

    def report(self, query: Query = BY_REPO) -> Report:
        """See Vault.report."""
        optional = {"top": query.top, "since": query.since}
        params = {"by": list(query.by)} | {k: v for k, v in optional.items() if v is not None}
        answer = self._transport.request(
            "GET", "/v1/report", params=params, slow=True, most_bytes=MAX_ANSWER_BYTES
        )
        return self._parse(Report, answer)

    def make_bill(
        self, month: str | None = None, by: Literal["namespace", "repo"] = "namespace"
    ) -> MonthBill:
        """See Vault.make_bill."""
        params: dict[str, Any] = {"by": by, **({"month": month} if month else {})}
        lines: list[BillLine] = []
        for _ in range(_MOST_PAGES):
            answer = self._transport.request(
                "GET", "/v1/bills", params=params, slow=True, most_bytes=MAX_ANSWER_BYTES
            )
            found = self._parse(BillPage, answer)
            new = found.to_lines(after=lines[-1].name if lines else "")
            lines += new
            if len(new) < BILL_PAGE:
                return found.to_bill(lines)
            params["after"] = lines[-1].name
        raise Unreachable(f"the server at {self.url} sends a bill without an end")

    def predict_removal(self, repos: Sequence[str]) -> Prediction:
        """See Vault.predict_removal."""
        params = {"repo": list(repos)}
        answer = self._transport.request(
            "GET", "/v1/what-if/rm", params=params, slow=True, most_bytes=MAX_ANSWER_BYTES
        )
        return self._parse(Prediction, answer)

    def compare(
        self, share: float = 1.0, seed: int = 0, progress: Progress | None = None
    ) -> Comparison:
        """See Vault.compare."""
        asked = {"kind": "comparison", "share": share, "seed": seed}
        return self._work(Comparison, asked, progress)

    def list_families(self) -> list[Family]:
        """See Vault.list_families."""
        answer = self._transport.request(
            "GET", "/v1/families", slow=True, most_bytes=MAX_ANSWER_BYTES
        )
        return self._parse(list[Family], answer)

    def optimise_all(
        self, *, dry_run: bool = False, reads: int | None = None, progress: Progress | None = None
    ) -> Optimised:
        """See Vault.optimise_all."""
        asked: dict[str, object] = {"kind": "optimise", "dry_run": dry_run}
        if reads is not None:
            asked["max_reads"] = reads
        return self._work(Optimised, asked, progress)

    def check(self, progress: Progress | None = None) -> CheckResult:
        """See Vault.check."""
        return self._follow(CheckResult, "/v1/check", {}, progress)

    def require_access(self) -> None:
        """Raises AccessRefused where a token is needed and none is sent: repos may be there that
        this vault is not shown."""
        try:
            self.list_tokens()
        except AccessRefused as error:
            raise AccessRefused(
                f"without a token, the server at {self.url} shows no repos",
                "set WEIGHTVAULT_TOKEN; `weightvault token create` makes one where the server runs",
            ) from error

    def list_tokens(self) -> list[TokenInfo]:
        """Returns the tokens that the one of this vault may list, oldest first."""
        return self._parse(list[TokenInfo], self._transport.request("GET", "/v1/tokens"))

    def revoke_token(self, token: str) -> None:
        """Revokes the token of that id. Raises Missing for one that may not be listed."""
        self._transport.request("DELETE", f"/v1/tokens/{quote(token, safe='')}", repeatable=False)

    def _work(self, kind: type[_T], asked: dict[str, Any], progress: Progress | None) -> _T:
        """Has the server do a job, and shows how far it is; ends it when interrupted."""
        result = run_job(self._transport, self._parse, asked, progress or Progress())
        return self._parse(kind, Answer(httpx.Headers(), json.dumps(result).encode()))

    def _follow(
        self, kind: type[_T], path: str, params: dict[str, Any], progress: Progress | None
    ) -> _T:
        """Asks for long work and shows how far it is. The server stops it if nobody listens."""
        asked = {**params, "progress": True}
        with self._transport.stream("GET", path, params=asked, slow=True) as pieces:
            line = follow(pieces, progress or Progress(), MAX_ANSWER_BYTES)
        found = self._parse(dict[str, kind], Answer(httpx.Headers(), line))
        if "result" not in found:
            raise Unreachable(f"the server at {self.url} ended without a result", "try again")
        return found["result"]


def _digests_json(digests: Sequence[bytes]) -> dict[str, Any]:
    return {"digests": [digest.hex() for digest in digests]}


def _sketch_json(sketch: Sketch) -> dict[str, Any]:
    texts = {"bits": sketch.bits.hex(), "words": sketch.words.hex()}
    return {"dtype": sketch.dtype, "size": sketch.size, **texts}


def _candidate(named: _Named) -> Candidate:
    return Candidate(**{**asdict(named), "digest": bytes.fromhex(named.digest)})


def _parts(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]


def _check_size(what: str, size: int, limit: int) -> None:
    if size > limit:
        raise TooLarge(f"a {what} of {size} bytes is too large; a server takes at most {limit}")
