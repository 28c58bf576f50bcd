"""Makes a second repo of one that is here."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ....dedup.maintenance.rename_repo import duplicate_repo as make_copy
from ....dedup.model.names import check_repo
from ....store.repo_names import RepoName
from ...requests.access import require_create
from ...requests.audit import note_repo
from ...requests.callers import caller_of, quotas_of
from ...requests.slots import run_checked
from ..errors import HubError
from ..state import hub_of, repo_url
from .asked import json_body


async def duplicate_repo(request: Request) -> Response:
    """POST /api/models/{repo}/duplicate: with all its history, for the caller or another namespace
    that they may write to; private unless it is said otherwise."""
    asked = await json_body(request)
    source = RepoName.of(request.path_params["repo"])
    namespace, slash, name = str(asked.get("repository") or source.name).rpartition("/")
    owner = namespace if slash else caller_of(request).name
    new = check_repo(str(RepoName(source.kind, owner, name)))
    note_repo(request, new)

    def work() -> Response:
        require_create(request, new)
        hub, url = hub_of(request), repo_url(request, new)
        answer = {"url": url, "name": RepoName.of(new).id}
        if hub.history.is_public(new) is not None:
            raise HubError(409, "You already created this repo", body=answer)
        # Whoever may not read it all is told what they may write, not what is there.
        quotas_of(request).require_file(owner, hub.vault.resolve(str(source)).manifest.size)
        make_copy(hub.vault, str(source), new, public=asked.get("visibility") == "public")
        return JSONResponse(answer)

    return await run_checked(request, work, repo=new)
