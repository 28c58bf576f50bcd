"""What the upstream said of repos, kept, so that it need not be asked each time and may be gone."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlencode

import httpx

from ...dedup.errors import RevisionNotFound
from ...dedup.model.names import check_revision, is_commit_id
from ...store.catalogue.catalogue import Catalogue
from ...store.catalogue.files.mirrors import AnswerRow, find_answer, put_answer
from ...store.repo_names import RepoName
from ..errors import UpstreamFailed, UpstreamRefused
from .listing import (
    MOST_FILES,
    UpstreamFile,
    check_listing,
    pack_listing,
    parse_entries,
    read_listing,
)
from .upstream import Reply, Upstream, parse_list, parse_reply

_PAGE = 1000
# Of one repo: revisions, the listings of some, and little else.
_MOST_ANSWERS = 300
_LISTINGS_HELD = 16
# An upstream that did not answer is not asked again for so long, where an answer is known.
_DOWN_SECONDS = 15.0

Listing = dict[str, UpstreamFile]


def api_path(repo: str, rest: str = "") -> str:
    """Returns where the API of a hub has a repo."""
    name = RepoName.of(repo)
    return f"/api/{name.kind}/{name.id}{rest}"


def file_path(repo: str, commit: str, path: str) -> str:
    """Returns where a hub has the bytes of a file."""
    return f"/{repo}/resolve/{commit}/{quote(path)}"


class Answers:
    """Asks an upstream what is not known, or was said more than `refresh_seconds` ago. Safe to use
    from several threads. Methods raise as Upstream's do."""

    def __init__(
        self,
        upstream: Upstream,
        catalogue: Catalogue,
        refresh_seconds: float,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._upstream = upstream
        self._catalogue = catalogue
        self._refresh = refresh_seconds
        self._clock = clock
        self._down_until = 0.0
        self._listings: OrderedDict[tuple[str, str], Listing] = OrderedDict()
        self._lock = threading.Lock()

    def ask(self, repo: str, name: str, path: str, token: str | None) -> Any:
        """Returns the JSON object that the upstream has at `path`, kept under `name`: as it was
        known where the upstream does not answer now. The repo is a mirrored one."""
        known, now = find_answer(self._catalogue, repo, name), self._clock()
        if known is not None and (
            now - known.checked < self._refresh or time.monotonic() < self._down_until
        ):
            return json.loads(known.body)
        tag = {"If-None-Match": known.etag} if known is not None and known.etag else {}
        try:
            reply = self.reach("GET", path, token, tag)
        except (UpstreamFailed, UpstreamRefused) as error:
            if known is None or (isinstance(error, UpstreamRefused) and error.status != 429):
                raise
            return json.loads(known.body)
        if reply.status == 304 and known is not None:
            row = replace(known, checked=now)
        else:
            etag = reply.headers.get("etag", "")
            body = json.dumps(parse_reply(reply), separators=(",", ":"))
            row = AnswerRow(repo, name, etag if 0 < len(etag) <= 200 else None, now, body)
        put_answer(self._catalogue, row, _MOST_ANSWERS)
        return json.loads(row.body)

    def reach(
        self, method: str, path: str, token: str | None, headers: dict[str, str] | None = None
    ) -> Reply:
        """As Upstream.ask; where that failed a moment ago, so does this at once."""
        if time.monotonic() < self._down_until:
            raise UpstreamFailed("the upstream hub does not answer", "try again later")
        try:
            return self._upstream.ask(method, path, token, headers=headers or {})
        except UpstreamFailed:
            self._down_until = time.monotonic() + _DOWN_SECONDS
            raise

    def info(self, repo: str, revision: str | None, token: str | None) -> dict[str, Any]:
        """Returns what the upstream says of a revision of a repo, or of the repo."""
        if revision is None:
            return self.ask(repo, "info", api_path(repo), token)
        rest = f"/revision/{quote(check_revision(revision), safe='')}"
        return self.ask(repo, f"revision {revision}", api_path(repo, rest), token)

    def find_commit(self, repo: str, revision: str | None, token: str | None) -> str:
        """Returns the id of the commit that a revision is."""
        if revision is not None and is_commit_id(revision):
            return revision
        found = self.info(repo, revision, token).get("sha")
        if not isinstance(found, str) or not is_commit_id(found):
            raise RevisionNotFound(f"{repo} has no commits at the upstream hub")
        return found

    def listing(self, repo: str, commit: str, token: str | None) -> Listing:
        """Returns the files of a commit, in order of their paths."""
        key = repo, commit
        with self._lock:
            held = self._listings.get(key)
            if held is not None:
                self._listings.move_to_end(key)
                return held
        known = find_answer(self._catalogue, repo, f"tree {commit}")
        if known is None:
            files = check_listing(self._fetch_listing(repo, commit, token))
            row = AnswerRow(repo, f"tree {commit}", None, self._clock(), pack_listing(files))
            put_answer(self._catalogue, row, _MOST_ANSWERS)
        else:
            files = read_listing(known.body)
        found = {file.path: file for file in files}
        with self._lock:
            self._listings[key] = found
            while len(self._listings) > _LISTINGS_HELD:
                self._listings.popitem(last=False)
        return found

    def forget(self, repo: str) -> None:
        """Forgets the listings of a repo that are held."""
        with self._lock:
            for key in [key for key in self._listings if key[0] == repo]:
                del self._listings[key]

    def _fetch_listing(self, repo: str, commit: str, token: str | None) -> list[UpstreamFile]:
        query = urlencode({"recursive": "true", "expand": "false", "limit": _PAGE})
        path: str | None = api_path(repo, f"/tree/{commit}?{query}")
        found: list[UpstreamFile] = []
        while path is not None and len(found) <= MOST_FILES:
            reply = self.reach("GET", path, token)
            before = len(found)
            found += parse_entries(parse_list(reply))
            path = next_page(reply)
            if path is not None and len(found) == before:
                raise UpstreamFailed("the upstream hub's list of files has an empty page")
        return found


def next_page(reply: Reply) -> str | None:
    """Returns the path and query of the page after an answer's, whatever host they are said to be
    at; None where that is the last."""
    found = re.search(r'<([^<>"\s]{1,4000})>;\s*rel="?next"?', reply.headers.get("link", ""))
    if found is None:
        return None
    try:
        path = httpx.URL(found[1]).raw_path.decode("ascii")
    except (httpx.InvalidURL, ValueError) as error:
        raise UpstreamFailed("the upstream hub's next page has no address") from error
    at = path.find("/api/")
    if at < 0:
        raise UpstreamFailed("the upstream hub's next page is none of its API")
    return path[at:]
