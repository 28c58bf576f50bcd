"""Which address of the hub's API leads where, and which right it needs."""

from __future__ import annotations

from ..requests.access import (
    has_token,
    may_read_repo,
    may_write_repo,
    public_endpoint,
    pushes,
    sees_own,
)
from . import lfs, mirrored, reads, users, writes
from .lfs_grants import holds_download_or_reads, holds_parts_upload, holds_upload
from .routing import HubRoute
from .xet import addresses

_REPO = "/api/{kind}/{repo}"
_LFS = "/{git}/info/lfs"


def hub_routes() -> list[HubRoute]:
    """Returns the routes, to be asked in this order and before any that take all paths."""
    git_lfs = (
        ("POST", f"{_LFS}/objects/batch", lfs.batch, may_read_repo),
        ("PUT", f"{_LFS}/objects/{{oid}}", lfs.put_object, holds_upload),
        ("GET HEAD", f"{_LFS}/objects/{{oid}}", lfs.get_object, holds_download_or_reads),
        ("PUT", f"{_LFS}/parts/{{oid}}/{{number}}", lfs.put_part, holds_parts_upload),
        ("POST", f"{_LFS}/parts/{{oid}}", lfs.complete, holds_parts_upload),
        ("POST", f"{_LFS}/verify", lfs.verify, may_write_repo),
        ("GET POST", f"{_LFS}/locks", lfs.locks, may_read_repo),
        ("GET POST", f"{_LFS}/locks/{{rest*}}", lfs.locks, may_read_repo),
    )
    may_read = mirrored.may_read_mirrored
    repo = mirrored.mirrored(mirrored.get_repo, reads.get_repo)
    tree = mirrored.mirrored(mirrored.get_tree, reads.get_tree)
    paths = mirrored.mirrored(mirrored.get_paths, reads.get_paths)
    refs = mirrored.mirrored(mirrored.get_refs, reads.get_refs)
    commits = mirrored.mirrored(mirrored.get_commits, reads.get_commits)
    file = mirrored.mirrored(mirrored.get_file, reads.get_file)
    raw = mirrored.mirrored(mirrored.get_raw, reads.get_raw)
    table = (
        ("GET", "/api/whoami-v2", users.whoami, has_token),
        ("POST", "/api/validate-yaml", users.validate_card, public_endpoint),
        ("POST", "/api/repos/create", writes.create_repo, pushes),
        ("DELETE", "/api/repos/delete", writes.delete_repo, pushes),
        ("POST", "/api/repos/move", writes.move_repo, pushes),
        ("GET", "/api/{kind}", reads.list_repos, sees_own),
        ("GET HEAD", _REPO, repo, may_read),
        ("GET", f"{_REPO}/auth-check", reads.check_access, may_read),
        ("PUT", f"{_REPO}/settings", writes.change_settings, may_write_repo),
        ("GET", f"{_REPO}/revision/{{rev}}", repo, may_read),
        ("GET", f"{_REPO}/tree/{{rev}}", tree, may_read),
        ("GET", f"{_REPO}/tree/{{rev}}/{{path*}}", tree, may_read),
        ("POST", f"{_REPO}/paths-info/{{rev}}", paths, may_read),
        ("GET", f"{_REPO}/refs", refs, may_read),
        ("GET", f"{_REPO}/commits/{{rev}}", commits, may_read),
        ("POST", f"{_REPO}/preupload/{{rev}}", writes.preupload, may_write_repo),
        ("POST", f"{_REPO}/commit/{{rev}}", writes.commit, may_write_repo),
        ("POST", f"{_REPO}/branch/{{name*}}", writes.create_branch, may_write_repo),
        ("DELETE", f"{_REPO}/branch/{{name*}}", writes.delete_branch, may_write_repo),
        ("POST", f"{_REPO}/tag/{{rev}}", writes.create_tag, may_write_repo),
        ("DELETE", f"{_REPO}/tag/{{rev}}", writes.delete_tag, may_write_repo),
        ("POST", f"{_REPO}/super-squash/{{rev}}", writes.squash, may_write_repo),
        ("GET", f"{_REPO}/resolve/{{rev}}/{{path*}}", file, may_read),
        ("GET HEAD POST", "/api/telemetry/{rest*}", users.nothing, public_endpoint),
        ("GET", "/api/agent-harnesses", users.nothing, public_endpoint),
        ("GET HEAD", "/{page}/resolve/{rev}/{path*}", file, may_read),
        ("GET HEAD", "/{page}/raw/{rev}/{path*}", raw, may_read),
    )
    others = [HubRoute(*row) for row in (*table, *addresses.ROUTES)]
    return [*(HubRoute(*row, basic=True) for row in git_lfs), *others]


def bare_route() -> HubRoute:
    """Returns the route for files of repos whose names have no namespace, of which there are none;
    to be asked after the pages of repos."""
    return HubRoute(
        "GET HEAD", "/{bare}/resolve/{rev}/{path*}", users.no_such_repo, public_endpoint
    )


def unknown_route() -> HubRoute:
    """Returns the route that answers for all other addresses below /api; to be asked last."""
    return HubRoute(
        "GET HEAD POST PUT DELETE PATCH", "/api/{rest*}", users.unknown, public_endpoint
    )
