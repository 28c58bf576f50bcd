"""Bodies of hub clients' requests, and the requests that send them, for the repo me/model."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import httpx

REPO = "/api/models/me/model"


def lines(*operations: tuple[str, dict], title: str = "title", **header: Any) -> bytes:
    listed = [("header", {"summary": title, "description": "", **header}), *operations]
    return b"".join(json.dumps({"key": k, "value": v}).encode() + b"\n" for k, v in listed)


def file(path: str, content: bytes) -> tuple[str, dict]:
    text = base64.b64encode(content).decode()
    return "file", {"path": path, "encoding": "base64", "content": text}


def lfs_file(path: str, content: bytes) -> tuple[str, dict]:
    oid = hashlib.sha256(content).hexdigest()
    return "lfsFile", {"path": path, "algo": "sha256", "oid": oid, "size": len(content)}


def commit(
    web: httpx.Client, *operations: tuple[str, dict], branch: str = "main", **header: Any
) -> httpx.Response:
    return web.post(f"{REPO}/commit/{branch}", content=lines(*operations, **header))


def batch(web: httpx.Client, content: bytes, operation: str = "upload", **more: Any) -> dict:
    wanted = [{"oid": hashlib.sha256(content).hexdigest(), "size": len(content)}]
    body = {"operation": operation, "objects": wanted, **more}
    answer = web.post("/me/model.git/info/lfs/objects/batch", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/vnd.git-lfs+json")
    return answer.json()["objects"][0]


def send(web: httpx.Client, content: bytes) -> None:
    href = batch(web, content)["actions"]["upload"]["href"]
    assert web.put(href, content=content).status_code == 200
