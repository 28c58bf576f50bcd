"""Repos of several owners in one vault, and what the bases of their chunks are."""

from __future__ import annotations

import base64
import json
import random
from collections import defaultdict
from pathlib import Path

from fastapi.testclient import TestClient
from models import make_weights, tune, write_model
from sqlalchemy import select

from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.background_encode import encode_some
from weightvault.dedup.model.journal_entries import Visibility
from weightvault.dedup.transfer.push import push
from weightvault.store.catalogue.tables.schema import (
    chunk_inputs,
    chunks,
    commit_chunks,
    commits,
    loose_chunks,
    loose_files,
    repos,
)
from weightvault.store.repo_names import namespace_of

SHAPES = {"a": (128, 96)}


def settle(vault: LocalVault) -> None:
    """Does all that the server would do in the background."""
    for _ in range(50):
        if not encode_some(vault):
            return
    raise AssertionError("encoding in the background does not come to an end")


def find_violations(vault: LocalVault) -> list[str]:
    """Returns the deltas that not all owners and readers may decode: the rule once more, read off
    the tables themselves."""
    owners, held, tensors, shown = (defaultdict[int, set[str]](set) for _ in range(4))
    public: set[int] = set()
    named = commits.join(repos).join(commit_chunks, commit_chunks.c.commit_id == commits.c.id)
    told = select(commit_chunks.c.chunk_id, commit_chunks.c.uses, repos.c.name, repos.c.public)
    loose = select(loose_chunks.c.chunk_id, loose_files.c.repo).join(loose_files)
    with vault.catalogue.reading() as connection:
        rows = list(connection.execute(select(chunks.c.id, chunks.c.digest, chunks.c.inputs)))
        for chunk_id, uses, repo, is_public in connection.execute(told.select_from(named)):
            owners[chunk_id].add(namespace_of(repo))
            held[chunk_id].add(namespace_of(repo))
            tensors[chunk_id] |= {repo} if uses & 1 else set()
            shown[chunk_id] |= {repo} if is_public else set()
            public |= {chunk_id} if is_public and uses & 1 else set()
        for chunk_id, repo in connection.execute(loose):
            owners[chunk_id].add(namespace_of(repo))
    ids = {row.digest: row.id for row in rows}
    edges = [(row.id, ids[digest]) for row in rows for digest in row.inputs or () if digest in ids]
    return [
        f"chunk {chunk} of {owners[chunk]} on one of {held[base]}"
        for chunk, base in edges
        if (shown[chunk] and not shown[base])
        or not (
            owners[chunk] <= held[base] or (base in public and (tensors[chunk] or not held[chunk]))
        )
    ]


def edges_of(vault: LocalVault, repo: str) -> set[str]:
    """Returns the repos that have what the chunks of a repo are deltas on."""
    base = chunks.alias("base")
    mine = (
        select(base.c.id)
        .join(chunk_inputs, chunk_inputs.c.input == base.c.digest)
        .join(commit_chunks, commit_chunks.c.chunk_id == chunk_inputs.c.chunk_id)
        .join(commits, commits.c.id == commit_chunks.c.commit_id)
        .join(repos, repos.c.id == commits.c.repo_id)
        .where(repos.c.name == repo)
    )
    using = (
        select(repos.c.name)
        .join(commits, commits.c.repo_id == repos.c.id)
        .join(commit_chunks, commit_chunks.c.commit_id == commits.c.id)
        .where(commit_chunks.c.chunk_id.in_(mine))
    )
    with vault.catalogue.reading() as connection:
        return set(connection.scalars(using))


def frame_sizes(vault: LocalVault, repo: str) -> list[int]:
    """Returns what the chunks of a repo take, as its owner would be charged for them."""
    mine = (
        select(chunks.c.id, chunks.c.frame_bytes)
        .join(commit_chunks, commit_chunks.c.chunk_id == chunks.c.id)
        .join(commits, commits.c.id == commit_chunks.c.commit_id)
        .join(repos, repos.c.id == commits.c.repo_id)
        .where(repos.c.name == repo)
    )
    with vault.catalogue.reading() as connection:
        return sorted(size for _, size in {tuple(row) for row in connection.execute(mine)})


def content_of(vault: LocalVault, repo: str, path: str = "model.safetensors") -> bytes:
    return b"".join(vault.read_file(repo, "main", path)[2])


def model(folder: Path, seed: int, *, tuned: int | None = None, card: str | None = None) -> Path:
    weights = make_weights(seed, SHAPES)
    return write_model(folder, weights if tuned is None else tune(weights, tuned), card)


def publish(vault: LocalVault, repo: str, public: bool = True) -> None:
    vault.record(Visibility(repo, public, 0.0))


def hub_commit(web: TestClient, token: str, repo: str, files: dict[str, bytes]) -> None:
    """Makes a repo over the hub's API, with one commit of `files`."""
    headers = {"Authorization": f"Bearer {token}"}
    namespace, name = repo.split("/")
    made = {"name": name, "organization": namespace, "private": True}
    assert web.post("/api/repos/create", json=made, headers=headers).status_code == 200
    lines: list[dict[str, object]] = [{"key": "header", "value": {"summary": "notes"}}]
    for path, data in files.items():
        value = {"path": path, "content": base64.b64encode(data).decode(), "encoding": "base64"}
        lines.append({"key": "file", "value": value})
    body = "\n".join(map(json.dumps, lines))
    kind = {"Content-Type": "application/x-ndjson"}
    sent = web.post(f"/api/models/{repo}/commit/main", content=body, headers=headers | kind)
    assert sent.status_code == 200, sent.text


def notes(secret: str) -> bytes:
    """A text of which all but a few characters is known."""
    rng = random.Random(1)
    prose = " ".join(rng.choice(["loss", "rate", "of", "run", "fell", "to"]) for _ in range(400))
    return f"{prose}\nthe key is {secret}\n{prose[::-1]}\n".encode()


def public_tune(vault: LocalVault, folder: Path, way: str) -> Path:
    """Makes the public you/tune of what was a delta on the private you/base; returns its folder."""
    push(
        vault, write_model(folder / "base", make_weights(1, SHAPES), "# A card\n" * 99), "you/base"
    )
    tuned = write_model(
        folder / "tune", tune(make_weights(1, SHAPES), 2), "# A card\n" * 98 + "# Another\n"
    )
    if way == "commit":
        push(vault, model(folder / "other", 5), "you/tune")
        publish(vault, "you/tune")
        push(vault, tuned, "you/draft", base="you/base")
        push(vault, tuned, "you/tune")
    else:
        push(vault, tuned, "you/tune", base="you/base")
        publish(vault, "you/tune")
    assert find_violations(vault)
    return tuned
