"""Lists of repos: which, in which order, and what of each."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ....dedup.errors import RepoNotFound, RevisionNotFound
from ....store.catalogue.files.mirrors import mirrored_from
from ....store.catalogue.repo_facts import RepoFacts, facts_of
from ....store.catalogue.repo_list import Facts, Order, Wanted, public_among
from ....store.catalogue.reports.pages import RepoLine, list_lines
from ....store.repo_names import DATASETS
from ...requests.callers import caller_of
from ..errors import HubError
from ..state import hub_of
from .facts import describe_waiting, open_default, require_described
from .history import date_of
from .info import FULL, IN_FILES, asked_properties, brief_facts, choose, repo_info, uncounted
from .paging import asks_for, link_next, no_such_cursor, read_cursor, read_number

_PAGE = 1000
_REPOS_PAGE = 100
# Of each of these a manifest and a card are read.
_LOOKED_INTO_PAGE = 20
# What a page may take: processor time, for what is looked into, and bytes.
_SECONDS = 0.5
_MOST_BYTES = 8 << 20
_UPDATED = ("lastModified", "last_modified")
_CREATED = ("createdAt", "created_at")
# What says which repos are listed, and what only says how much is told of each.
_LISTED_BY = re.compile(
    "author|search|limit|sort|direction|cursor|gated|filter|pipeline_tag|library|language|license|"
    "dataset|tags|num_parameters|inference|inference_provider|full|cardData|config|fetch_config|"
    r"expand(\[\])?|withCount"
)
# Nothing is counted here, so that by these all are alike.
_SORTED_BY = re.compile(
    "last_?[mM]odified|created_?[aA]t|downloads|likes|likes7d|trending_?[sS]core"
)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_BOUND = re.compile(r"(min|max):([0-9]{1,15})(?:\.([0-9]{1,9}))?([KMBT]?)", re.IGNORECASE)
_MOST_LABELS = 50


def list_repos(request: Request) -> Response:
    """GET /api/models and the like."""
    kind, query = request.path_params["kind"], request.query_params
    _check_query(query)
    asked = asked_properties(request, kind)
    facts = _asked_facts(kind, query)
    if _asks_for_none(query):
        return JSONResponse([])
    words = tuple(word for text in query.getlist("search") for word in text.split())
    author = query.get("author") or None
    wanted = Wanted(caller_of(request).scope, kind, author, words, open_copies=True, facts=facts)
    return _list(request, wanted, asked)


def _list(request: Request, wanted: Wanted, asked: frozenset[str] | None) -> Response:
    query, vault = request.query_params, hub_of(request).vault
    order, falling = _asked_order(query)
    if wanted.facts != Facts() or order == "created":
        require_described(vault, wanted)
    into = _looked_into(request, asked)
    most = _LOOKED_INTO_PAGE if into else _PAGE
    limit = read_number(query.get("limit"), min(most, _REPOS_PAGE), most=most)
    catalogue, cursor = vault.catalogue, read_cursor(request)
    try:
        found = list_lines(catalogue, wanted, order, limit + 1, cursor, descending=falling)
    except ValueError as error:
        raise no_such_cursor() from error
    page = found[:limit]
    told = list(_tell(request, wanted, page, asked, into))
    more = len(found) > limit or len(told) < len(page)
    headers = link_next(request, page[len(told) - 1].cursor) if more else {}
    body = b"[" + b",".join(filter(None, told)) + b"]"
    return Response(body, headers=headers, media_type="application/json")


def _tell(
    request: Request,
    wanted: Wanted,
    page: Sequence[RepoLine],
    asked: frozenset[str] | None,
    into: frozenset[str],
) -> Iterator[bytes]:
    """Yields what is told of each repo of a page, as JSON, nothing of one that is gone. Ends after
    any of them, but the first, where these took long or are long: the next page goes on."""
    vault, names = hub_of(request).vault, [line.name for line in page]
    describe_waiting(vault, wanted, names)
    copies, public = mirrored_from(vault.catalogue, names), public_among(vault.catalogue, names)
    facts = facts_of(vault.catalogue, names)
    left, until = _MOST_BYTES, time.thread_time() + _SECONDS
    for line in page:
        told = _line(line, line.name in public, facts.get(line.name), copies.get(line.name))
        try:
            told |= _from_files(request, line.name, line.name in public, into)
        except (RepoNotFound, RevisionNotFound):
            # It went away at this moment.
            yield b""
            continue
        text = bytes(JSONResponse(choose(told | uncounted(asked), asked)).body)
        left -= len(text)
        yield text
        if left < 0 or time.thread_time() > until:
            return


def _line(
    repo: RepoLine, public: bool, facts: RepoFacts | None, upstream: str | None
) -> dict[str, Any]:
    known = facts or RepoFacts(created=repo.updated)
    told = brief_facts(repo.name, public, known.created)
    told |= {} if upstream is None else {"mirroredFrom": upstream}
    told |= {"lastModified": date_of(repo.updated), "tags": list(known.labels)}
    said = {"pipeline_tag": known.pipeline_tag, "library_name": known.library}
    return told | {name: value for name, value in said.items() if value is not None}


def _looked_into(request: Request, asked: frozenset[str] | None) -> frozenset[str]:
    """Returns what a list tells of repos for which their files are looked into."""
    named = (asked or frozenset()) | (FULL if asks_for(request, "full") else frozenset())
    return IN_FILES & (named | ({"cardData"} if asks_for(request, "cardData") else set()))


def _from_files(
    request: Request, repo: str, public: bool, wanted: frozenset[str]
) -> dict[str, Any]:
    if not wanted:
        return {}
    vault = hub_of(request).vault
    told = repo_info(vault, open_default(vault, repo), public)
    return {name: told[name] for name in wanted if name in told}


def _check_query(query: QueryParams) -> None:
    """Raises HubError for what a list cannot be asked for: a wrong answer would pass for one."""
    unknown = sorted(name for name in query if not _LISTED_BY.fullmatch(name))
    if unknown:
        named = ", ".join(name[:40] for name in unknown[:5])
        raise HubError(400, f"repos are not listed by {named} here; ask with search or filter")
    if (sort := query.get("sort")) is not None and not _SORTED_BY.fullmatch(sort):
        raise HubError(400, f"repos are not sorted by {sort[:40]} here")
    if query.get("direction", "-1") not in ("-1", "1"):
        raise HubError(400, "direction is -1, the largest first, or 1")
    if query.get("gated", "false").lower() not in ("true", "false", "auto", "manual"):
        raise HubError(400, "gated is true or false")


def _asks_for_none(query: QueryParams) -> bool:
    """Whether a list is of repos that are gated, or that somebody runs: there are none."""
    gated = query.get("gated", "false").lower() != "false"
    return gated or bool(query.get("inference") or query.get("inference_provider"))


def _asked_order(query: QueryParams) -> tuple[Order, bool]:
    """Returns the order of a list, and whether the last comes first."""
    falling = query.get("direction", "-1") == "-1"
    if query.get("sort") in _UPDATED:
        return "updated", falling
    if query.get("sort") in _CREATED:
        return "created", falling
    return "name", False


def _asked_facts(kind: str, query: QueryParams) -> Facts:
    """Returns what cards and files are to say. Raises HubError."""
    labels = [*query.getlist("filter"), *query.getlist("library"), *query.getlist("tags")]
    for name in ("dataset", "license"):
        labels += [_prefixed(name, value) for value in query.getlist(name)]
    for value in query.getlist("language"):
        labels.append(_prefixed("language", value) if kind == DATASETS else value)
    labels = list(dict.fromkeys(label for label in labels if label))
    if len(labels) > _MOST_LABELS:
        raise HubError(400, f"a list is filtered by at most {_MOST_LABELS} tags")
    tasks = list(dict.fromkeys(filter(None, query.getlist("pipeline_tag"))))
    if len(tasks) > 1:
        raise HubError(400, "a model has one pipeline_tag")
    least, most = _asked_parameters(query.get("num_parameters"))
    return Facts(tuple(labels), tasks[0] if tasks else None, least, most)


def _asked_parameters(text: str | None) -> tuple[int | None, int | None]:
    """Returns the bounds that a text such as "min:6B,max:128B" has. Raises HubError."""
    bounds: dict[str, int] = {}
    for part in filter(None, (text or "").split(",")):
        found = _BOUND.fullmatch(part.strip())
        if found is None:
            raise HubError(400, "num_parameters is such as min:6B,max:128B")
        end, whole, tenths, unit = found.groups(default="")
        digits = int(whole + tenths) * _UNITS[unit.upper()]
        number, rest = divmod(digits, 10 ** len(tenths))
        # No model has a part of a parameter: at least 1.5 is at least 2, at most 1.5 at most 1.
        number += 1 if rest and end.lower() == "min" else 0
        bounds[end.lower()] = min(number, (1 << 63) - 1)
    return bounds.get("min"), bounds.get("max")


def _prefixed(name: str, value: str) -> str:
    return value if not value or value.startswith(f"{name}:") else f"{name}:{value}"
