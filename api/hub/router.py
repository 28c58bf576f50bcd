"""Which address of the hub's API leads where, and which right it needs."""

from __future__ import annotations

from ...store.repo_names import KINDS
from ..requests.access import (
    has_token,
    may_read_repo,
    may_write_repo,
    public_endpoint,
    pushes,
    sees_own,
)
from . import lfs, mirrored, users
from .lfs_grants import holds_download_or_reads, holds_parts_upload, holds_upload
from .reading import contents, elsewhere, history, lfs_files, lists, trees
from .reading import repos as known_repos
from .routing import HubRoute
from .writing import commits as new_commits
from .writing import copies, preupload, pulls, refs, repos
from .writing import history as rewriting
from .xet import addresses

_REPO = "/api/{kind}/{repo}"
_LFS = "/{git}/info/lfs"


def _git_lfs_routes() -> list[HubRoute]:
    table = (
        ("POST", f"{_LFS}/objects/batch", lfs.batch, may_read_repo),
        ("PUT", f"{_LFS}/objects/{{oid}}", lfs.put_object, holds_upload),
        ("GET HEAD", f"{_LFS}/objects/{{oid}}", lfs.get_object, holds_download_or_reads),
        ("PUT", f"{_LFS}/parts/{{oid}}/{{number}}", lfs.put_part, holds_parts_upload),
        ("POST", f"{_LFS}/parts/{{oid}}", lfs.complete, holds_parts_upload),
        ("POST", f"{_LFS}/verify", lfs.verify, may_write_repo),
        ("GET POST", f"{_LFS}/locks", lfs.locks, may_read_repo),
        ("GET POST", f"{_LFS}/locks/{{rest*}}", lfs.locks, may_read_repo),
    )
    return [HubRoute(*row, basic=True) for row in table]


def hub_routes() -> list[HubRoute]:
    """Returns the routes, to be asked in this order and before any that take all paths."""
    may_read = mirrored.may_read_mirrored
    repo = mirrored.mirrored(mirrored.get_repo, known_repos.get_repo)
    tree = mirrored.mirrored(mirrored.get_tree, trees.get_tree)
    paths = mirrored.mirrored(mirrored.get_paths, trees.get_paths)
    named = mirrored.mirrored(mirrored.get_refs, history.get_refs)
    commits = mirrored.mirrored(mirrored.get_commits, history.get_commits)
    file = mirrored.mirrored(mirrored.get_file, contents.get_file)
    raw = mirrored.mirrored(mirrored.get_raw, contents.get_raw)
    table = (
        ("GET", "/api/whoami-v2", users.whoami, has_token),
        ("POST", "/api/validate-yaml", users.validate_card, public_endpoint),
        ("POST", "/api/repos/create", repos.create_repo, pushes),
        ("DELETE", "/api/repos/delete", repos.delete_repo, pushes),
        ("POST", "/api/repos/move", repos.move_repo, pushes),
        ("GET", "/api/{kind}", lists.list_repos, sees_own),
        ("GET HEAD", _REPO, repo, may_read),
        ("GET", f"{_REPO}/auth-check", known_repos.check_access, may_read),
        ("PUT", f"{_REPO}/settings", repos.change_settings, may_write_repo),
        ("GET", f"{_REPO}/revision/{{rev}}", repo, may_read),
        ("GET", f"{_REPO}/tree/{{rev}}", tree, may_read),
        ("GET", f"{_REPO}/tree/{{rev}}/{{path*}}", tree, may_read),
        ("POST", f"{_REPO}/paths-info/{{rev}}", paths, may_read),
        ("GET", f"{_REPO}/refs", named, may_read),
        ("GET", f"{_REPO}/commits/{{rev}}", commits, may_read),
        ("POST", f"{_REPO}/preupload/{{rev}}", preupload.preupload, may_write_repo),
        ("POST", f"{_REPO}/commit/{{rev}}", new_commits.commit, may_write_repo),
        ("POST", f"{_REPO}/branch/{{name*}}", refs.create_branch, may_write_repo),
        ("DELETE", f"{_REPO}/branch/{{name*}}", refs.delete_branch, may_write_repo),
        ("POST", f"{_REPO}/tag/{{rev}}", refs.create_tag, may_write_repo),
        ("DELETE", f"{_REPO}/tag/{{rev}}", refs.delete_tag, may_write_repo),
        ("POST", f"{_REPO}/super-squash/{{rev}}", rewriting.squash, may_write_repo),
        ("GET", f"{_REPO}/lfs-files", lfs_files.list_lfs_files, may_read_repo),
        ("POST", f"{_REPO}/lfs-files/batch", rewriting.erase_lfs_files, may_write_repo),
        ("POST", f"{_REPO}/discussions", pulls.open_pull_request, may_write_repo),
        ("GET", f"{_REPO}/discussions/{{number}}", pulls.get_pull_request, may_read_repo),
        ("POST", f"{_REPO}/duplicate", copies.duplicate_repo, may_read_repo),
        ("GET", "/api/settings/repositories", known_repos.list_own, has_token),
        (
            "GET",
            "/api/organizations/{namespace}/settings/repositories",
            known_repos.list_own,
            has_token,
        ),
        ("GET", f"{_REPO}/resolve/{{rev}}/{{path*}}", file, may_read),
        ("GET HEAD POST", "/api/telemetry/{rest*}", users.nothing, public_endpoint),
        ("GET", "/api/agent-harnesses", users.nothing, public_endpoint),
        ("GET HEAD", "/{page}/resolve/{rev}/{path*}", file, may_read),
        ("GET HEAD", "/{page}/raw/{rev}/{path*}", raw, may_read),
    )
    others = [HubRoute(*row) for row in (*table, *addresses.ROUTES)]
    routes = [*_git_lfs_routes(), *others]
    for route in routes:
        same = [other.methods for other in routes if other.pattern == route.pattern]
        route.allowed = set().union(*same)
        route.find_elsewhere = elsewhere.find_elsewhere
    return routes


def bare_routes() -> list[HubRoute]:
    """Returns the routes for files of repos whose names have no namespace, of which there are none;
    to be asked after the pages of repos."""
    kinds = ("", *(f"/{kind}" for kind in KINDS))
    files = [f"{kind}/{{bare}}/{part}" for kind in kinds for part in ("resolve", "raw")]
    table = [("GET HEAD", f"{path}/{{rev}}/{{path*}}") for path in files]
    table += [("GET HEAD POST PUT", f"{kind}/{{bare}}/info/lfs/{{rest*}}") for kind in kinds]
    return [HubRoute(*row, users.no_such_repo, public_endpoint) for row in table]


def unknown_route() -> HubRoute:
    """Returns the route that answers for all other addresses below /api; to be asked last."""
    return HubRoute(
        "GET HEAD POST PUT DELETE PATCH", "/api/{rest*}", users.unknown, public_endpoint
    )
