"""Which address of the hub's API leads where."""

from __future__ import annotations

from . import lfs, reads, users, writes, xet
from .routing import HubRoute

_REPO = "/api/{kind}/{repo}"
_LFS = "/{git}/info/lfs"


def hub_routes() -> list[HubRoute]:
    """Returns the routes, to be asked in this order and before any that take all paths."""
    table = (
        ("GET", "/api/whoami-v2", users.whoami),
        ("POST", "/api/validate-yaml", users.validate_card),
        ("POST", "/api/repos/create", writes.create_repo),
        ("DELETE", "/api/repos/delete", writes.delete_repo),
        ("POST", "/api/repos/move", writes.move_repo),
        ("GET", "/api/{kind}", reads.list_repos),
        ("GET HEAD", _REPO, reads.get_repo),
        ("PUT", f"{_REPO}/settings", writes.change_settings),
        ("GET", f"{_REPO}/revision/{{rev}}", reads.get_repo),
        ("GET", f"{_REPO}/tree/{{rev}}", reads.get_tree),
        ("GET", f"{_REPO}/tree/{{rev}}/{{path*}}", reads.get_tree),
        ("POST", f"{_REPO}/paths-info/{{rev}}", reads.get_paths),
        ("GET", f"{_REPO}/refs", reads.get_refs),
        ("GET", f"{_REPO}/commits/{{rev}}", reads.get_commits),
        ("POST", f"{_REPO}/preupload/{{rev}}", writes.preupload),
        ("POST", f"{_REPO}/commit/{{rev}}", writes.commit),
        ("POST", f"{_REPO}/branch/{{name*}}", writes.create_branch),
        ("DELETE", f"{_REPO}/branch/{{name*}}", writes.delete_branch),
        ("POST", f"{_REPO}/tag/{{rev}}", writes.create_tag),
        ("DELETE", f"{_REPO}/tag/{{rev}}", writes.delete_tag),
        ("POST", f"{_REPO}/super-squash/{{rev}}", writes.squash),
        ("GET", f"{_REPO}/resolve/{{rev}}/{{path*}}", reads.get_file),
        ("GET HEAD POST", "/api/telemetry/{rest*}", users.nothing),
        ("GET", "/api/agent-harnesses", users.nothing),
        ("POST", f"{_LFS}/objects/batch", lfs.batch),
        ("PUT", f"{_LFS}/objects/{{oid}}", lfs.put_object),
        ("GET HEAD", f"{_LFS}/objects/{{oid}}", lfs.get_object),
        ("PUT", f"{_LFS}/parts/{{oid}}/{{number}}", lfs.put_part),
        ("POST", f"{_LFS}/parts/{{oid}}", lfs.complete),
        ("POST", f"{_LFS}/verify", lfs.verify),
        ("GET POST", f"{_LFS}/locks", lfs.locks),
        ("GET POST", f"{_LFS}/locks/{{rest*}}", lfs.locks),
        ("GET HEAD", "/{page}/resolve/{rev}/{path*}", reads.get_file),
        ("GET HEAD", "/{page}/raw/{rev}/{path*}", reads.get_file),
    )
    return [HubRoute(*row) for row in (*table, *xet.ROUTES)]


def unknown_route() -> HubRoute:
    """Returns the route that answers for all other addresses below /api; to be asked last."""
    return HubRoute("GET HEAD POST PUT DELETE PATCH", "/api/{rest*}", users.unknown)
