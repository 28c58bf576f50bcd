"""What clients of a hub send: over any HTTP client, to any server."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import httpx


class HubRequests:
    """A client of a hub; `web` knows the server's address and shows the token."""

    def __init__(self, web: httpx.Client) -> None:
        self.web = web

    def create(self, repo: str, **options: Any) -> httpx.Response:
        """Makes a repo."""
        *kind, namespace, name = repo.split("/")
        body = {"name": name, "organization": namespace, "private": True, **options}
        body |= {"type": kind[0].removesuffix("s")} if kind else {}
        return self.web.post("/api/repos/create", json=body)

    def commit(
        self, repo: str, files: Mapping[str, bytes] = {}, uploaded: Mapping[str, bytes] = {}
    ) -> httpx.Response:
        """Commits files that travel in the request, and others that were uploaded before."""
        headers = {"Content-Type": "application/x-ndjson"}
        path = f"{hub_path(repo)}/commit/main"
        return self.web.post(path, content=commit_body(files, uploaded), headers=headers)

    def batch(self, repo: str, data: bytes, operation: str = "upload") -> dict[str, Any]:
        """What git-lfs is told of one file."""
        asked = {"operation": operation, "objects": [{"oid": sha256(data), "size": len(data)}]}
        answer = self.web.post(f"/{repo}.git/info/lfs/objects/batch", json=asked)
        return answer.json()["objects"][0] if answer.status_code == 200 else {}

    def upload(self, repo: str, data: bytes) -> httpx.Response | None:
        """Sends a file by git-lfs; None where it need not or must not be sent."""
        action = self.batch(repo, data).get("actions", {}).get("upload")
        return self.web.put(action["href"], content=data) if action else None


def commit_body(files: Mapping[str, bytes] = {}, uploaded: Mapping[str, bytes] = {}) -> bytes:
    """The body of a commit."""
    lines: list[dict[str, Any]] = [{"key": "header", "value": {"summary": "a commit"}}]
    for path, data in files.items():
        content = {"content": base64.b64encode(data).decode(), "encoding": "base64"}
        lines.append({"key": "file", "value": {"path": path, **content}})
    for path, data in uploaded.items():
        value = {"path": path, "algo": "sha256", "oid": sha256(data), "size": len(data)}
        lines.append({"key": "lfsFile", "value": value})
    return "\n".join(map(json.dumps, lines)).encode()


def hub_path(repo: str) -> str:
    """Where the hub's API has a repo."""
    return f"/api/{repo}" if repo.count("/") == 2 else f"/api/models/{repo}"


def sha256(data: bytes) -> str:
    """A file's name in git-lfs."""
    return hashlib.sha256(data).hexdigest()
