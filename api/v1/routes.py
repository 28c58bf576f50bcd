"""The endpoints that write, list and account. Those that send content are in content.py.

A repo is two path parts, three with its kind in front; a revision is a query parameter, because
branches may contain slashes. Plain functions run in worker threads, so that a slow disk holds up
nobody else; what they are given comes from functions that wait for nothing, and take no thread.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from ...dedup.local_vault import LocalVault
from ...dedup.model.files.entries import FileEntry
from ...dedup.model.files.manifest import parse_manifest
from ...dedup.model.names import MAX_MESSAGE_BYTES, check_repo
from ...dedup.progress import Progress
from ...dedup.reports.revision_details import split_bytes
from ...dedup.transfer.namespaced_vault import NamespacedVault
from ...dedup.vault import Candidate, Snapshot
from ...store.catalogue.repo_list import Wanted
from ..protocol.wire import MAX_MANIFEST_BODY_BYTES, MAX_PACK_BYTES, REPOS_A_PAGE
from ..requests.access import (
    may_commit,
    may_read_repo,
    may_write_repo,
    needs,
    pushes,
    readable_name,
    reads_everything,
    repo_in_path,
    sees_own,
)
from ..requests.callers import caller_of
from ..requests.repo_routes import RepoRoutes
from ..requests.slots import run_checked
from ..requests.uploads import received_bytes, received_file
from ..sending.progress_lines import TOLD, ProgressParam, TellingResponse
from .documented import BINARY_BODY, DIGESTS_BODY, FAILURES, NAME, SKETCHES_BODY
from .json_bodies import DigestsParam, SketchesParam
from .schemas import (
    AddedSchema,
    BasesSchema,
    CandidateSchema,
    CheckSchema,
    CommitSchema,
    FamilySchema,
    MissingSchema,
    RepoInfoSchema,
    RepoSummarySchema,
    RevisionFileSchema,
    RevisionSchema,
    SegmentsSchema,
    TensorSchema,
)


async def vault_of(request: Request) -> LocalVault:
    """Returns the vault that the application was made for."""
    return request.app.state.vault


async def push_target(request: Request) -> LocalVault | NamespacedVault:
    """Returns the vault as the caller may push to it."""
    caller, vault = caller_of(request), request.app.state.vault
    return (
        vault
        if caller.writes_all
        else NamespacedVault(vault, caller.principal, caller.scope, caller.owned)
    )


async def repo_of(
    request: Request,
    namespace: Annotated[
        str, Path(description="first part of the repo's name", json_schema_extra=NAME)
    ],
    name: Annotated[
        str, Path(description="second part of the repo's name", json_schema_extra=NAME)
    ],
) -> str:
    """Returns the repo that the path names; the vault checks the name."""
    return repo_in_path(request)


VaultParam = Annotated[LocalVault, Depends(vault_of)]
PushTargetParam = Annotated[LocalVault | NamespacedVault, Depends(push_target)]
RepoParam = Annotated[str, Depends(repo_of)]
RevisionParam = Annotated[
    str, Query(description="a branch, a tag, or a commit: 7 of its digits or all 40")
]
# Of a repo, its kind included.
_MAX_NAME = 220
LimitParam = Annotated[
    int | None, Query(ge=1, le=REPOS_A_PAGE, description="so many repos at most; else all")
]
AfterParam = Annotated[
    str | None,
    Query(max_length=_MAX_NAME, description="the name of the last repo of the page before"),
]
CursorParam = Annotated[int, Query(ge=0, lt=1 << 63, description="of the step before, or 0")]

router = APIRouter(prefix="/v1", responses=FAILURES)
of_repo = RepoRoutes("/v1/repos", responses=FAILURES)


@router.post(
    "/missing",
    tags=["push"],
    summary="Ask which chunks are missing",
    openapi_extra=DIGESTS_BODY,
    dependencies=needs(pushes),
)
def find_missing(request: Request, vault: PushTargetParam, digests: DigestsParam) -> MissingSchema:
    """Says which of the chunks the vault holds no frame of, in the order asked.

    For a token with a namespace: as far as its repos, and what was sent with it, tell.
    """
    missing = vault.find_missing(digests)
    asked = len(set(digests))
    request.app.state.metrics.chunks_asked.inc(asked)
    request.app.state.metrics.chunks_known.inc(asked - len(missing))
    return MissingSchema(missing=[digest.hex() for digest in digests if digest in missing])


@router.post(
    "/bases",
    tags=["push"],
    summary="Ask what to code against",
    openapi_extra=SKETCHES_BODY,
    dependencies=needs(pushes),
)
def find_bases(vault: PushTargetParam, sketches: SketchesParam) -> BasesSchema:
    """Names, for each sketch, stored chunks with related content, best first.

    A frame may be made against any of them; its bytes come from the frames of the revision named.
    """
    found = vault.find_bases(sketches)
    return BasesSchema(bases=[[_candidate_schema(c) for c in each] for each in found])


@router.put(
    "/packs/{name}",
    tags=["push"],
    summary="Upload a pack",
    openapi_extra=BINARY_BODY,
    dependencies=needs(pushes),
)
async def add_pack(
    request: Request,
    vault: PushTargetParam,
    name: Annotated[
        str, Path(pattern=r"^[0-9a-f]{64}$", description="BLAKE3-256 of the pack, in hexadecimal")
    ],
) -> AddedSchema:
    """Takes in frames, as one pack. Every frame is decoded and hashed before this answers."""
    async with received_file(request, vault.scratch, MAX_PACK_BYTES) as path:
        added = await run_checked(request, partial(vault.add_pack, bounded=True), path, name)
    request.app.state.metrics.frames_added.inc(added)
    return AddedSchema(added=added)


@of_repo.post(
    "/commits/check",
    tags=["push"],
    status_code=204,
    summary="Ask whether a commit would be accepted",
    dependencies=needs(may_commit),
)
def check_commit(_repo: RepoParam) -> Response:
    """Answers 204 where the caller may commit to a repo of that name, there or not."""
    return Response(status_code=204)


@of_repo.post(
    "/commits",
    tags=["push"],
    summary="Commit a revision",
    openapi_extra=BINARY_BODY,
    dependencies=needs(may_commit),
)
async def commit(
    request: Request,
    vault: PushTargetParam,
    repo: RepoParam,
    branch: Annotated[str, Query(description="the branch to move")] = "main",
    base: Annotated[str | None, Query(description="the repo this one derives from")] = None,
    message: Annotated[
        str | None, Query(max_length=MAX_MESSAGE_BYTES, description="title, and more on it")
    ] = None,
) -> CommitSchema:
    """Makes the manifest in the body the newest commit of a branch.

    Repo and branch are made as needed. `chunks_missing` means that frames have to be uploaded
    first. A commit of the manifest that the branch has already changes nothing. A `base` that the
    caller may not read is left out.
    """
    body = await received_bytes(request, MAX_MANIFEST_BODY_BYTES)

    def parse_and_commit() -> CommitSchema:
        named = None if base is None else readable_name(request, check_repo(base))
        manifest = parse_manifest(body)
        made = vault.commit(repo, branch, manifest, base=named, message=message, bounded=True)
        if caller_of(request).reads_all:
            # What others push is encoded in the background, which re-centres, too.
            request.app.state.encoder.recentre_later(made.repo, made.id)
        return CommitSchema.model_validate(made)

    return await run_checked(request, parse_and_commit)


@router.get(
    "/repos",
    tags=["repos"],
    summary="List all repos",
    dependencies=needs(sees_own),
)
def list_repos(
    request: Request, vault: VaultParam, limit: LimitParam = None, after: AfterParam = None
) -> list[RepoSummarySchema]:
    """Lists, by name, the repos that the caller may read: all of them, or a page."""
    wanted = Wanted(caller_of(request).scope, open_copies=True)
    found = vault.list_repos_of(wanted, limit, after)
    return [RepoSummarySchema.model_validate(repo) for repo in found]


@of_repo.get(
    "",
    tags=["repos"],
    summary="Describe a repo",
    dependencies=needs(may_read_repo),
)
def describe_repo(request: Request, vault: VaultParam, repo: RepoParam) -> RepoInfoSchema:
    """Tells a repo's branches, the files of its newest commit, and what it costs."""
    return RepoInfoSchema.model_validate(vault.describe_repo(repo, caller_of(request).scope))


@of_repo.delete(
    "",
    tags=["repos"],
    status_code=204,
    summary="Delete a repo",
    dependencies=needs(may_write_repo),
)
def delete_repo(vault: VaultParam, repo: RepoParam) -> Response:
    """Deletes a repo with all its commits."""
    vault.delete_repo(repo)
    return Response(status_code=204)


@of_repo.get(
    "/revision",
    tags=["repos"],
    summary="Resolve a revision",
    dependencies=needs(may_read_repo),
)
def resolve(
    vault: VaultParam,
    repo: RepoParam,
    revision: RevisionParam = "main",
    tensors: Annotated[bool, Query(description="list each file's tensors")] = False,
) -> RevisionSchema:
    """Tells which commit a branch names, and the files of that commit."""
    return _revision_schema(vault.resolve(repo, revision), tensors)


@router.get(
    "/families",
    tags=["vault"],
    summary="List the families of models",
    dependencies=needs(reads_everything),
)
def list_families(vault: VaultParam) -> list[FamilySchema]:
    """Lists which repos share bases, largest family first."""
    return [FamilySchema.model_validate(family) for family in vault.list_families()]


@router.get(
    "/check",
    tags=["vault"],
    summary="Check the vault",
    response_model=CheckSchema,
    responses=TOLD,
    dependencies=needs(reads_everything),
)
def check(vault: VaultParam, progress: ProgressParam = False) -> Any:
    """Checks that everything referred to is there; reads no weights and writes nothing."""

    def work(told: Progress | None = None) -> CheckSchema:
        return CheckSchema.model_validate(vault.check(told))

    return TellingResponse(work) if progress else work()


def _candidate_schema(found: Candidate) -> CandidateSchema:
    return CandidateSchema(
        digest=found.digest.hex(),
        size=found.size,
        predicted=found.predicted,
        repo=found.repo,
        revision=found.revision,
    )


def _revision_schema(snapshot: Snapshot, with_tensors: bool) -> RevisionSchema:
    chunk_bytes = snapshot.manifest.chunk_bytes
    return RevisionSchema(
        commit=CommitSchema.model_validate(snapshot.commit),
        files=[_file_schema(f, chunk_bytes, with_tensors) for f in snapshot.manifest.files],
    )


def _file_schema(entry: FileEntry, chunk_bytes: int, with_tensors: bool) -> RevisionFileSchema:
    tensors = list(entry.tensors)
    parts = split_bytes(entry)
    return RevisionFileSchema(
        path=entry.path,
        size=entry.size,
        tensors=len(tensors),
        blake3=entry.digest.hex(),
        segments=SegmentsSchema(
            literal=parts["literals"],
            opaque=parts["other"],
            tensors=parts["tensors"],
            chunks=sum(1 for _ in entry.chunks(chunk_bytes)),
        ),
        tensor_list=[TensorSchema.model_validate(t) for t in tensors] if with_tensors else [],
    )
