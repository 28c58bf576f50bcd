"""The pages of one repo: card, files, tensors, family, commits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Annotated

from fastapi import Depends, Query, Request, Response

from ...dedup.errors import Corrupt, EntryNotFound, Missing, RepoNotFound
from ...dedup.local_vault import LocalVault
from ...dedup.model.cards import CARD
from ...dedup.model.files.entries import FileEntry
from ...dedup.model.names import check_repo, is_commit_id
from ...dedup.reports.lineage import find_lineage, shown_base
from ...dedup.reports.revision_details import (
    describe_file,
    describe_tensors,
    list_folder,
    list_tensors,
    split_bytes,
    sum_revision,
)
from ...dedup.vault import Snapshot
from ...store.catalogue.refs import list_tags
from ...store.catalogue.reports.pages import list_history
from ...store.catalogue.tables.rows import CommitRow
from ...store.repo_names import RepoName
from ..requests.access import may_read_repo, needs
from ..requests.callers import caller_of
from ..requests.repo_routes import RepoRoutes
from ..sending.headers import file_headers
from ..sending.streams import BytesStream
from ..v1.routes import RepoParam, VaultParam
from .addresses import split_address
from .card import IMAGE_TYPES, MAX_CARD_BYTES, Card, render_card
from .paging import PageRoute, cut_page
from .rendering import render

TENSORS_A_PAGE = 100
FILES_A_PAGE = 1000
_COMMITS_A_PAGE = 50
_MAIN = "main"
# Of a text file, this much is shown; of an image of a card, no more is sent.
_MAX_TEXT_BYTES = 64 * 1024
_MAX_IMAGE_BYTES = 8 << 20

of_repo = RepoRoutes(
    "",
    "{namespace:namespace}",
    include_in_schema=False,
    route_class=PageRoute,
    dependencies=needs(may_read_repo),
)


@dataclass(frozen=True, slots=True)
class RepoView:
    """What every page of a repo needs: its name, branches and tags with their commits, the
    revision that the page is about, as the address names it, and the path in it."""

    repo: str
    branches: dict[str, CommitRow]
    tags: dict[str, CommitRow]
    revision: str
    path: str
    vault: LocalVault

    @property
    def named(self) -> RepoName:
        """The repo's name in its parts."""
        return RepoName.of(self.repo)

    def snapshot(self) -> Snapshot:
        """The commit and files of the revision."""
        return self.vault.resolve(self.repo, self.revision)


def view_of(request: Request, vault: VaultParam, repo: RepoParam) -> RepoView:
    """Returns the view that the address asks for; without a revision, that of `main`, or of the
    newest branch where there is no `main`."""
    branches = vault.catalogue.branches(check_repo(repo))
    tags = list_tags(vault.catalogue, repo)
    if not branches:
        raise RepoNotFound(f"there is no repo {repo}", "the list has all there are")
    newest = max(branches, key=lambda name: (name == _MAIN, branches[name].created))
    revision, path = split_address(request)
    return RepoView(repo, branches, tags, revision or newest, path, vault)


ViewParam = Annotated[RepoView, Depends(view_of)]


@of_repo.get("")
def show_card(request: Request, view: ViewParam) -> Response:
    """The model card, and what the repo takes."""
    snapshot, frames = view.snapshot(), caller_of(request).reads_all
    return render(
        request,
        "repo_card.html",
        view=view,
        page="",
        commit=snapshot.commit,
        base=shown_base(view.vault.catalogue, snapshot.commit, caller_of(request).scope),
        sums=sum_revision(view.vault.catalogue, snapshot, frames=frames),
        card=_card(view, snapshot),
    )


@of_repo.get("/tree/{rest:path}")
def show_files(request: Request, view: ViewParam, page: int = 1) -> Response:
    """The files of a folder, a page at a time, with what each takes."""
    snapshot, frames = view.snapshot(), caller_of(request).reads_all
    listed = list_folder(view.vault.catalogue, snapshot, view.path, frames=frames)
    if not listed and view.path:
        raise EntryNotFound(f"{view.repo} at {view.revision} has no folder {view.path!r}")
    return render(
        request,
        "repo_files.html",
        view=view,
        page="tree",
        commit=snapshot.commit,
        found=cut_page(listed, page, FILES_A_PAGE),
        crumbs=list(_crumbs(view.path)),
        frames=frames,
    )


@of_repo.get("/blob/{rest:path}")
def show_file(request: Request, view: ViewParam) -> Response:
    """One file: what it is made of, and its text if it is a short one."""
    snapshot, entry = view.vault.stat_file(view.repo, view.revision, view.path)
    frames = caller_of(request).reads_all
    return render(
        request,
        "repo_file.html",
        view=view,
        page="tree",
        commit=snapshot.commit,
        entry=entry,
        line=describe_file(view.vault.catalogue, entry, frames=frames),
        parts=split_bytes(entry),
        chunks=sum(1 for _ in entry.chunks(snapshot.manifest.chunk_bytes)),
        text=_text(view, entry),
        crumbs=list(_crumbs(view.path)),
    )


@of_repo.get("/tensors/{rest:path}")
@of_repo.get("/tensors")
def show_tensors(
    request: Request,
    view: ViewParam,
    q: Annotated[str, Query(max_length=200)] = "",
    file: str | None = None,
    page: int = 1,
) -> Response:
    """The tensors of a revision, a page at a time."""
    snapshot, frames = view.snapshot(), caller_of(request).reads_all
    found = cut_page(list_tensors(snapshot, file or None, q.strip()), page, TENSORS_A_PAGE)
    return render(
        request,
        "repo_tensors.html",
        view=view,
        page="tensors",
        commit=snapshot.commit,
        search=q.strip(),
        file=file or None,
        files=list(islice(_paths_with_tensors(snapshot), FILES_A_PAGE)),
        found=found,
        tensors=describe_tensors(view.vault, found.items, frames=frames),
        frames=frames,
    )


@of_repo.get("/family")
def show_family(request: Request, view: ViewParam) -> Response:
    """What the repo comes from and what comes from it."""
    root = find_lineage(view.vault.catalogue, view.repo, caller_of(request).scope)
    return render(request, "repo_family.html", view=view, page="family", root=root)


@of_repo.get("/commits/{rest:path}")
@of_repo.get("/commits")
def show_commits(request: Request, view: ViewParam, start: str | None = None) -> Response:
    """The commits of a branch, newest first; `start` is the id to begin with."""
    first = start or view.snapshot().commit.id
    rows = list_history(view.vault.catalogue, view.repo, first, _COMMITS_A_PAGE + 1)
    return render(
        request,
        "repo_commits.html",
        view=view,
        page="commits",
        rows=rows[:_COMMITS_A_PAGE],
        older=rows[_COMMITS_A_PAGE].oid if len(rows) > _COMMITS_A_PAGE else None,
        start=start,
    )


@of_repo.get("/download/{rest:path}")
def download(request: Request, view: ViewParam) -> Response:
    """A file, to be saved."""
    snapshot, entry = view.vault.stat_file(view.repo, view.revision, view.path)
    headers = _file_headers(request, view, entry)
    read = partial(view.vault.serve_entry, entry, snapshot.manifest.chunk_bytes)
    return BytesStream(read, 0, entry.size, 200, headers)


@of_repo.get("/image/{rest:path}")
def show_image(request: Request, view: ViewParam) -> Response:
    """A raster image of the repo, for its card."""
    media_type = IMAGE_TYPES.get(view.path.rpartition(".")[2].lower())
    snapshot, entry = view.vault.stat_file(view.repo, view.revision, view.path)
    if media_type is None or entry.size > _MAX_IMAGE_BYTES:
        raise EntryNotFound(f"{view.path!r} is no image that cards can show")
    headers = _file_headers(request, view, entry) | {"Content-Type": media_type}
    read = partial(view.vault.serve_entry, entry, snapshot.manifest.chunk_bytes)
    return BytesStream(read, 0, entry.size, 200, headers)


def _file_headers(request: Request, view: RepoView, entry: FileEntry) -> dict[str, str]:
    name, pinned = entry.path.rpartition("/")[2], is_commit_id(view.revision)
    headers = file_headers(request.headers, entry.digest.hex(), name, pinned=pinned)
    return {**headers, "Accept-Ranges": "none", "Content-Length": str(entry.size)}


def _card(view: RepoView, snapshot: Snapshot) -> Card | None:
    """The model card of a revision; None where there is none or it cannot be read."""
    if snapshot.manifest.file(CARD) is None:
        return None
    commit = snapshot.commit.id
    try:
        pieces = view.vault.read_file(view.repo, commit, CARD, 0, MAX_CARD_BYTES + 1)[2]
        text = b"".join(pieces)
    except (Missing, Corrupt):
        return None
    return render_card(text, view.repo, view.revision)


def _text(view: RepoView, entry: FileEntry) -> str | None:
    """The beginning of a text file; None for other files and for what cannot be read."""
    if any(entry.tensors):
        return None
    try:
        pieces = view.vault.read_file(view.repo, view.revision, entry.path, 0, _MAX_TEXT_BYTES)[2]
        data = b"".join(pieces)
        text = data.decode(errors="strict" if entry.size <= _MAX_TEXT_BYTES else "ignore")
    except (Missing, Corrupt, UnicodeDecodeError):
        return None
    return None if "\0" in text else text


def _paths_with_tensors(snapshot: Snapshot) -> Iterator[str]:
    return (entry.path for entry in snapshot.manifest.files if any(entry.tensors))


def _crumbs(path: str) -> Iterator[tuple[str, str]]:
    """The folders on the way to `path` and itself, as name and path."""
    parts = path.split("/") if path else []
    for depth, part in enumerate(parts):
        yield part, "/".join(parts[: depth + 1])
