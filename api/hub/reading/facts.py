"""What repos say of themselves in cards and files: told of each, kept for lists to select by."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator
from typing import Any

from ....dedup.errors import Corrupt, RepoNotFound, RevisionNotFound
from ....dedup.local_vault import LocalVault
from ....dedup.model.cards import CARD, MAX_CARD_HEAD_BYTES, Json, read_front_matter
from ....dedup.model.files.manifest import Manifest
from ....dedup.vault import Snapshot
from ....store.catalogue.repo_facts import RepoFacts, describe_repo, list_undescribed
from ....store.catalogue.repo_list import Wanted
from ....store.errors import Superseded
from ....store.repo_names import DATASETS, RepoName
from ..errors import HubError
from ..state import default_branch

_log = logging.getLogger("weightvault.api")

# A card and a manifest each: about half a second.
_READ_AT_ONCE = 200
# Of processor time, which that may take.
_SECONDS = 0.5
# What of a dataset's card becomes labels that begin with its key.
_DATASET_KEYS = (
    *("task_categories", "task_ids", "language", "language_creators", "annotations_creators"),
    *("multilinguality", "size_categories", "source_datasets", "license"),
)
_FORMATS = {".safetensors": "safetensors", ".gguf": "gguf", ".onnx": "onnx"}
_RELATIONS = ("adapter", "finetune", "merge", "quantized")


def describe_waiting(
    vault: LocalVault, wanted: Wanted, names: Collection[str] | None = None
) -> bool:
    """Reads repos that a list may have and that changed since they were read; of these only those
    with `names`, where there are any. Says whether all were, as it stops after a while: cards and
    manifests are as long as their owners like."""
    waiting = list_undescribed(vault.catalogue, wanted, _READ_AT_ONCE + 1, names)
    until = time.thread_time() + _SECONDS
    for done, repo in enumerate(waiting):
        if done == _READ_AT_ONCE or (done and time.thread_time() > until):
            return False
        try:
            facts = read_facts(vault, open_default(vault, repo.name))
            describe_repo(vault.catalogue, repo, facts)
        except (RepoNotFound, RevisionNotFound, Superseded):
            # It went away at this moment.
            continue
        except Corrupt as error:
            _log.warning("%s is in no list by tags: %s", repo.name, error.message)
    return True


def require_described(vault: LocalVault, wanted: Wanted) -> None:
    """Has all repos read that a list may have. Raises HubError, with a status that clients wait
    and ask again upon, where it takes longer: any list would be wrong."""
    if not describe_waiting(vault, wanted):
        raise HubError(
            503,
            "cards and files are being read for lists to select by: ask again",
            headers={"Retry-After": "1"},
        )


def open_default(vault: LocalVault, repo: str) -> Snapshot:
    """Returns what a repo's default branch has. Raises RepoNotFound, RevisionNotFound."""
    return vault.resolve(repo, default_branch(vault.catalogue.branches(repo)))


def read_facts(vault: LocalVault, snapshot: Snapshot) -> RepoFacts:
    """Returns what a revision says of its repo."""
    card, manifest = read_card(vault, snapshot), snapshot.manifest
    kind = RepoName.of(snapshot.commit.repo).kind
    return RepoFacts(
        tuple(dict.fromkeys(make_labels(kind, card, manifest))),
        _text(card.get("pipeline_tag")),
        _text(card.get("library_name")),
        sum(count_parameters(manifest).values()) or None,
        snapshot.commit.created,
    )


def read_card(vault: LocalVault, snapshot: Snapshot) -> dict[str, Any]:
    """Returns the front matter of a repo's README.md: free text of unknown origin."""
    entry = snapshot.manifest.file(CARD)
    if entry is None:
        return {}
    stop = min(entry.size, MAX_CARD_HEAD_BYTES)
    pieces = vault.read_entry(entry, snapshot.manifest.chunk_bytes, 0, stop)
    return read_front_matter(b"".join(map(bytes, pieces)))


def make_labels(kind: str, card: dict[str, Any], manifest: Manifest) -> Iterator[str]:
    """Yields the tags of a repo as hubs make them of its card and its files; some twice."""
    if kind == DATASETS:
        for key in _DATASET_KEYS:
            yield from (f"{key}:{value}" for value in texts_of(card.get(key)))
        yield from texts_of(card.get("tags"))
        return
    yield from texts_of(card.get("library_name"))
    yield from _formats_in(manifest)
    for key in ("tags", "pipeline_tag", "sdk", "language"):
        yield from texts_of(card.get(key))
    # Cards have a key of the same name as that kind of repos.
    for key, prefix in ((DATASETS, "dataset"), ("license", "license")):
        yield from (f"{prefix}:{value}" for value in texts_of(card.get(key)))
    relation = card.get("base_model_relation")
    for base in texts_of(card.get("base_model")):
        yield f"base_model:{base}"
        if relation in _RELATIONS:
            yield f"base_model:{relation}:{base}"


def count_parameters(manifest: Manifest, ending: str | None = None) -> dict[str, int]:
    """Returns how many elements the tensors of a model have by dtype: those of safetensors, else
    those of the first GGUF file, else none, since others tell no tensors of their own or the same
    once more. Of an `ending`, only where it is of that."""
    safe = [file for file in manifest.files if file.path.endswith(".safetensors")]
    other = [file for file in manifest.files if file.path.endswith(".gguf")][:1]
    found = safe or other
    if not found or (ending is not None and not found[0].path.endswith(ending)):
        return {}
    counts: dict[str, int] = {}
    for tensor in (tensor for file in found for tensor in file.tensors):
        elements = 1
        for length in tensor.shape:
            elements *= length
        counts[tensor.dtype] = counts.get(tensor.dtype, 0) + elements
    return counts


def texts_of(value: Json) -> list[str]:
    """Returns the texts that a card has at a key: one, or a list of them."""
    listed = value if isinstance(value, list) else [value]
    return [each for each in listed if isinstance(each, str)]


def _formats_in(manifest: Manifest) -> Iterator[str]:
    for file in manifest.files:
        name = file.path.rpartition("/")[2]
        ending = name[name.rfind(".") :] if "." in name else ""
        if ending in _FORMATS:
            yield _FORMATS[ending]
        elif name.startswith("pytorch_model") and ending == ".bin":
            yield "pytorch"


def _text(value: Json) -> str | None:
    """Returns a text that a database keeps, None for any other value."""
    fits = isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()
    return value if fits and isinstance(value, str) else None
