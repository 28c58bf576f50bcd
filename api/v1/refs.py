"""The endpoints of branches, tags and the log, and the one that gives a repo another name."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Query, Request, Response

from ...dedup.model.names import MAX_MESSAGE_BYTES, check_repo
from ...store.catalogue.access.rules import RetentionRules
from ..requests.access import may_read_repo, may_write_repo, needs, require_create
from ..requests.callers import caller_of
from ..requests.repo_routes import RepoRoutes
from ..requests.slots import run_checked
from .documented import FAILURES
from .routes import RepoParam, RevisionParam, VaultParam
from .schemas import CommitSchema, ForgettingSchema, RefsSchema

# A title and a message have thousands of bytes; more commits than these are asked for in turns.
_MOST_COMMITS = 1000

BranchParam = Annotated[str, Path(description="a name; it may hold slashes")]
LimitParam = Annotated[int, Query(ge=1, le=_MOST_COMMITS, description="how many at most")]
MessageParam = Annotated[str | None, Query(max_length=MAX_MESSAGE_BYTES, pattern=r"^[^\x00]*$")]

KeepParam = Annotated[int | None, Query(ge=-1, lt=1 << 31, description="how many; -1: all")]

of_repo = RepoRoutes("/v1/repos", tags=["refs"], responses=FAILURES)


@of_repo.get("/refs", summary="List branches and tags", dependencies=needs(may_read_repo))
def list_refs(vault: VaultParam, repo: RepoParam) -> RefsSchema:
    """Tells which commits the branches and tags of a repo name."""
    return RefsSchema.model_validate(vault.list_refs(repo))


@of_repo.get("/commits", summary="Read the log", dependencies=needs(may_read_repo))
def list_commits(
    vault: VaultParam,
    repo: RepoParam,
    revision: RevisionParam = "main",
    limit: LimitParam = _MOST_COMMITS,
) -> list[CommitSchema]:
    """Lists a commit and those before it, newest first; the next page begins at the last one."""
    return [CommitSchema.model_validate(c) for c in vault.list_commits(repo, revision, limit)]


@of_repo.put(
    "/branches/{branch:path}",
    status_code=204,
    summary="Make a branch",
    dependencies=needs(may_write_repo),
)
def create_branch(
    vault: VaultParam, repo: RepoParam, branch: BranchParam, revision: RevisionParam = "main"
) -> Response:
    """Makes a branch at a revision; `conflict` where there is one of that name."""
    vault.create_branch(repo, branch, revision)
    return Response(status_code=204)


@of_repo.delete(
    "/branches/{branch:path}",
    status_code=204,
    summary="Delete a branch",
    dependencies=needs(may_write_repo),
)
def delete_branch(vault: VaultParam, repo: RepoParam, branch: BranchParam) -> Response:
    """Takes a branch away; not the last one, nor `main`. Its commits stay."""
    vault.delete_branch(repo, branch)
    return Response(status_code=204)


@of_repo.put(
    "/tags/{tag:path}", status_code=204, summary="Make a tag", dependencies=needs(may_write_repo)
)
def create_tag(
    vault: VaultParam,
    repo: RepoParam,
    tag: BranchParam,
    revision: RevisionParam = "main",
    message: MessageParam = None,
) -> Response:
    """Lets a tag name a revision; `conflict` where there is one of that name."""
    vault.create_tag(repo, tag, revision, message)
    return Response(status_code=204)


@of_repo.delete(
    "/tags/{tag:path}", status_code=204, summary="Delete a tag", dependencies=needs(may_write_repo)
)
def delete_tag(vault: VaultParam, repo: RepoParam, tag: BranchParam) -> Response:
    """Takes a tag away."""
    vault.delete_tag(repo, tag)
    return Response(status_code=204)


async def keep_rules(
    keep_last: KeepParam = None,
    keep_hourly: KeepParam = None,
    keep_daily: KeepParam = None,
    keep_weekly: KeepParam = None,
    keep_monthly: KeepParam = None,
    keep_yearly: KeepParam = None,
    keep_within: Annotated[float | None, Query(gt=0, lt=1 << 31, description="seconds")] = None,
    keep_tagged: Annotated[bool, Query(description="tagged commits, which always stay")] = False,
) -> RetentionRules:
    """Returns the rules that a request names."""
    counts = keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly
    return RetentionRules(*counts, within_seconds=keep_within, tagged=keep_tagged)


@of_repo.post("/forget", summary="Forget commits", dependencies=needs(may_write_repo))
async def forget(
    request: Request,
    vault: VaultParam,
    repo: RepoParam,
    rules: Annotated[RetentionRules, Depends(keep_rules)],
    dry_run: Annotated[bool, Query(description="only say what would be forgotten")] = False,
) -> ForgettingSchema:
    """Removes the commits that no rule keeps and neither a branch nor a tag names."""

    def work() -> ForgettingSchema:
        scope = caller_of(request).scope
        found = vault.forget(repo, rules, dry_run=dry_run, seen=scope)
        return ForgettingSchema.model_validate(found)

    return await run_checked(request, work)


@of_repo.post("/move", status_code=204, summary="Rename a repo", dependencies=needs(may_write_repo))
def rename_repo(
    request: Request,
    vault: VaultParam,
    repo: RepoParam,
    to: Annotated[str, Query(description="the new name")],
) -> Response:
    """Gives a repo another name, with its commits and their ids, branches and tags."""
    require_create(request, check_repo(to))
    vault.rename_repo(repo, to)
    return Response(status_code=204)
