"""Takes over repos that lie in a bucket as files, one at a time by way of this machine's disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from ....store.backends.s3 import ForeignObject, S3Backend
from ...errors import Conflict, InvalidInput
from ...model.names import check_repo
from ...model.paths import Remark, check_new_path
from ...progress import Progress
from ...reading.scratch import scratch_folder
from ...repository.refs import DEFAULT_BRANCH
from ...repository.repository import Repository
from ..folders.rules import Rules
from .found_repos import FoundRevision
from .revisions import Imported, ImportReport, import_revision

# The objects of a repo by their paths in it.
_Objects = dict[str, ForeignObject]


def import_bucket(
    vault: Repository,
    bucket: S3Backend,
    namespace: str | None = None,
    *,
    rules: Rules | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Pushes what lies at `namespace/name/path` of a bucket, or at `name/path` with a `namespace`.

    A repo whose objects are those of its last import is not read again. Raises InvalidInput where
    there is none.
    """
    progress = progress or Progress()
    done: list[Imported] = []
    failed: list[Remark] = []
    left_out: list[Remark] = []
    for repo, objects in _group(bucket, namespace, left_out):
        try:
            check_repo(repo)
            done.append(_import_repo(vault, bucket, repo, objects, rules, progress))
        except (InvalidInput, Conflict) as error:
            failed.append(Remark(repo, error.message))
    if not done and not failed:
        hint = "each repo is namespace/name/… or, with --namespace, name/…"
        raise InvalidInput("there is no repo in the bucket below that prefix", hint)
    return ImportReport(tuple(done), tuple(failed), tuple(left_out))


def _group(
    bucket: S3Backend, namespace: str | None, left_out: list[Remark]
) -> Iterator[tuple[str, _Objects]]:
    """Yields repos with their objects; S3 lists by key."""
    parts = 2 if namespace is None else 1

    def repo_of(found: ForeignObject) -> str:
        *names, path = found.key.split("/", parts)
        if len(names) < parts or not path:
            return ""
        return "/".join(names if namespace is None else [namespace, *names])

    for repo, objects in groupby(bucket.list_foreign(), repo_of):
        found = [each for each in objects if not each.key.endswith("/")]
        if repo:
            yield repo, {each.key.split("/", parts)[-1]: each for each in found}
        else:
            left_out += [Remark(each.key, "it lies in no repo") for each in found]


def _import_repo(
    vault: Repository,
    bucket: S3Backend,
    repo: str,
    objects: _Objects,
    rules: Rules | None,
    progress: Progress,
) -> Imported:
    mark, size = _mark_of(objects), sum(each.size for each in objects.values())
    head = vault.catalogue.find_commit(repo, DEFAULT_BRANCH)
    if head is not None and head.message is not None and head.message.endswith(mark):
        return Imported(repo, head.oid, (DEFAULT_BRANCH,), len(objects), size, 0, True)
    with scratch_folder("import-", vault.scratch) as folder:
        with progress.running("fetching", size):
            for name, each in objects.items():
                path = Path(folder, check_new_path(name))
                path.parent.mkdir(parents=True, exist_ok=True)
                bucket.fetch_foreign(each.key, path)
                progress.advance(each.size)
        revision = FoundRevision(repo, Path(folder), refs=(DEFAULT_BRANCH,))
        return import_revision(
            vault, revision, message=f"Imported\n\n{mark}", rules=rules, progress=progress
        )


def _mark_of(objects: _Objects) -> str:
    """Returns what tells these objects from others, for the message of their commit."""
    told = "\n".join(f"{name}\t{each.size}\t{each.etag}" for name, each in objects.items())
    return f"objects {hashlib.sha256(told.encode()).hexdigest()}"
