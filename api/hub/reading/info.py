"""What is told of a repo, and what of that with `expand`."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from starlette.requests import Request

from ....dedup.local_vault import LocalVault
from ....dedup.vault import Snapshot
from ....store.catalogue.refs import first_created
from ....store.repo_names import DATASETS, MODELS, SPACES, RepoName
from ..errors import HubError
from ..files import HubFile, hub_files
from .facts import count_parameters, make_labels, read_card
from .history import date_of

# What can be asked for of a repo by itself. Those `in_files` take its manifest, or its card.
_BRIEF = (
    *("author", "createdAt", "disabled", "downloads", "downloadsAllTime", "gated"),
    *("lastModified", "likes", "private", "tags", "trendingScore", "xetEnabled"),
)
_IN_FILES = ("cardData", "sha", "siblings", "usedStorage")
_OF_MODELS = ("library_name", "pipeline_tag", "inferenceProviderMapping")
_IN_FILES_OF_MODELS = ("safetensors", "gguf", "model-index")
IN_FILES = frozenset((*_IN_FILES, *_IN_FILES_OF_MODELS, "sdk"))
"""What is told of a repo after its files were looked into."""
FULL = frozenset(("author", "gated", "lastModified", "private", "sha", "siblings", "tags"))
"""What `full` adds to the lines of a list."""


def asked_properties(request: Request, kind: str) -> frozenset[str] | None:
    """Returns what a request asks for of repos; None where it does not say. Raises HubError for
    what is not told here: a client would take its lack for an answer."""
    query = request.query_params
    named = frozenset((*query.getlist("expand"), *query.getlist("expand[]")))
    if not named:
        return None
    known = {*_BRIEF, *_IN_FILES}
    known |= {*_OF_MODELS, *_IN_FILES_OF_MODELS} if kind == MODELS else set()
    known |= {"sdk"} if kind == SPACES else set()
    if unknown := sorted(named - known):
        said = ", ".join(name[:40] for name in unknown[:5])
        raise HubError(400, f"{said} cannot be told here; expand takes {', '.join(sorted(known))}")
    return named


def choose(told: dict[str, Any], asked: frozenset[str] | None) -> dict[str, Any]:
    """Returns of what is told of a repo what was asked for, and its name."""
    if asked is None:
        return told
    kept = {"_id", "id", "modelId", "mirroredFrom", *asked}
    return {name: value for name, value in told.items() if name in kept}


def brief_facts(repo: str, public: bool, created: float) -> dict[str, Any]:
    """Returns what is told of any repo; nothing is counted here."""
    named = RepoName.of(repo)
    return {
        "_id": quote(repo, safe=""),
        "id": named.id,
        **({"modelId": named.id} if named.kind == MODELS else {}),
        "author": named.namespace,
        "private": not public,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "createdAt": date_of(created),
    }


def uncounted(asked: frozenset[str] | None) -> dict[str, Any]:
    """Returns what is told only where it was asked for."""
    values: dict[str, Any] = {"downloadsAllTime": 0, "trendingScore": 0, "xetEnabled": False}
    values["inferenceProviderMapping"] = {}
    return {name: value for name, value in values.items() if asked and name in asked}


def repo_info(
    vault: LocalVault, snapshot: Snapshot, public: bool, *, blobs: bool = False
) -> dict[str, Any]:
    """Returns what is told of a repo at a revision; with `blobs`, hashes of its files, too."""
    commit, manifest = snapshot.commit, snapshot.manifest
    kind, card = RepoName.of(commit.repo).kind, read_card(vault, snapshot)
    files = hub_files(vault, manifest) if blobs else {}
    siblings = [
        {"rfilename": entry.path, **(_blob(files[entry.path]) if blobs else {})}
        for entry in manifest.files
    ]
    known = {n: card[n] for n in ("library_name", "pipeline_tag") if isinstance(card.get(n), str)}
    known |= {n: card[n] for n in ("model-index",) if card.get(n)}
    known |= {"sdk": card["sdk"]} if isinstance(card.get("sdk"), str) and kind == SPACES else {}
    created = first_created(vault.catalogue, commit.repo) or commit.created
    return {
        **brief_facts(commit.repo, public, created),
        "sha": commit.id,
        "lastModified": date_of(commit.created),
        "tags": list(dict.fromkeys(make_labels(kind, card, manifest))),
        "cardData": card,
        "siblings": siblings,
        "usedStorage": manifest.size,
        **({} if kind == DATASETS else _parameters(snapshot)),
        **known,
    }


def _parameters(snapshot: Snapshot) -> dict[str, Any]:
    """Tells how many parameters a model has."""
    counts = count_parameters(snapshot.manifest, ".safetensors")
    if counts:
        return {"safetensors": {"parameters": counts, "total": sum(counts.values())}}
    counts = count_parameters(snapshot.manifest, ".gguf")
    return {"gguf": {"total": sum(counts.values())}} if counts else {}


def _blob(file: HubFile) -> dict[str, Any]:
    known = {"size": file.entry.size, "blobId": file.blob.hex()}
    if not file.lfs:
        return known
    lfs = file.lfs_info()
    return known | {"lfs": {"sha256": lfs["oid"], **lfs}}
