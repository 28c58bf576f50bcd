"""Makes requests for every route of the application: parts of paths, queries, headers, bodies."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote

from blake3 import blake3
from fastapi import FastAPI

from ...api.requests.access import routes_of
from .bombs import FILE_BOMBS, JSON_BOMBS, MIB, make_card, manifest_bomb, mutate
from .target import Target, sketches_body

SIZES = (0, 1, 100, 10_000, 100_000, MIB - 4096)
ODD = (
    *("main", "..", ".", "", "%", "a" * 300, "frames", "commits", "-", "api", "models", "datasets"),
    *("\0", "\n", "\u202e", "é" * 100, "\ud800", "🙂", "null", "0", "-1", "9" * 5000, "refs/pr/1"),
    *("refs/heads/main", "'; drop table repos; --", "%00", "%2e%2e%2f", "a/" * 200, "\\", "~", "*"),
)
_TYPES = (
    *("application/json", "application/octet-stream", "application/x-www-form-urlencoded"),
    *("multipart/form-data; boundary=x", "text/plain", "application/x-ndjson", "x" * 500, ""),
)
_MULTIPART = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n'


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a pattern of a path with parts in braces."""

    method: str
    pattern: str

    @property
    def hands_out(self) -> bool:
        """Whether it gives back what is stored, so that an answer is as long as that."""
        names = (
            "/resolve/",
            "/raw/",
            "/files/",
            "/tensors/",
            "/frames",
            "/image/",
            "/lfs/objects/",
        )
        return any(name in self.pattern for name in names)


@dataclass(frozen=True, slots=True)
class Attack:
    """A request: a route, who asks, the target as it is sent, headers, body, and what it tries."""

    route: Route
    role: str
    target: str
    headers: dict[str, str]
    body: bytes
    what: str
    replay: dict[str, str] = field(default_factory=dict)


def list_routes(app: FastAPI) -> list[Route]:
    """Every method and path that an application answers, documented or not."""
    found = {
        (method, getattr(route, "path", None) or route.pattern)
        for route in routes_of(app)
        for method in getattr(route, "methods", None) or ()
    }
    found |= {("GET", "/-/static/site.css"), ("TRACE", "/"), ("OPTIONS", "/v1/repos")}
    return [Route(method, path) for method, path in sorted(found)]


class Grammar:
    """Makes attacks on a target, each from a number."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def make(self, route: Route, seed: int) -> Attack:
        """Returns the attack of that number."""
        rng = random.Random(f"{route} {seed}")
        role = rng.choice(("none", "read", "namespaced", "namespaced", "admin"))
        what, body = self._body(rng, route)
        headers = self._headers(rng) | self._target.headers(role)
        name = blake3(body).hexdigest() if "/packs/" in route.pattern else None
        return Attack(route, role, self._address(rng, route, name), headers, body, what)

    # Addresses

    def _address(self, rng: random.Random, route: Route, pack: str | None) -> str:
        parts = []
        for part in route.pattern.strip("/").split("/"):
            name = part.strip("{}").rstrip("*").partition(":")[0]
            if not part.startswith("{"):
                parts.append(part)
            elif route.method == "DELETE" and name in ("repo", "name"):
                # What is attacked shall stay.
                parts.append(f"acme/n{rng.randrange(20)}"[0 if name == "repo" else 5 :])
            else:
                parts.append(self._part(rng, part[1:-1], pack))
        query = self._query(rng)
        return "/" + "/".join(parts) + (f"?{query}" if query else "")

    def _part(self, rng: random.Random, name: str, pack: str | None) -> str:
        if name == "name" and pack is not None and rng.random() < 0.8:
            return pack
        if rng.random() < 0.12:
            return quote(rng.choice(ODD), safe="", errors="surrogatepass")
        plain = name.rstrip("*").partition(":")[0]
        if plain in ("repo", "page", "git"):
            chosen = rng.choice([*self._target.repos, "acme/one", f"acme/n{rng.randrange(20)}"])
            return f"{chosen}.git" if plain == "git" else chosen
        pools: dict[str, Callable[[], str]] = {
            "namespace": lambda: rng.choice(["acme", "acme", "other"]),
            "name": lambda: rng.choice(["one", "two", "public", f"n{rng.randrange(20)}"]),
            "kind": lambda: rng.choice(["models", "models", "datasets", "spaces"]),
            "rev": lambda: rng.choice(["main", "main", *self._target.commits]),
            "revision": lambda: rng.choice(["main", *self._target.commits]),
            "path": lambda: quote(rng.choice(self._target.paths)),
            "tensor": lambda: quote(rng.choice(self._target.tensors)),
            "oid": lambda: rng.choice(self._target.hashes),
            "hash": lambda: rng.choice(self._target.hashes),
            "number": lambda: rng.choice(["1", "99999", "0", "00001"]),
            "prefix": lambda: "default",
            "generation": lambda: "g" + "0" * 16,
        }
        return pools.get(plain, lambda: "x")()

    def _query(self, rng: random.Random) -> str:
        if rng.random() < 0.5:
            return ""
        texts = ("true", "1", "main", "acme/one", rng.choice(ODD), "MTAwMDAwMDAw", "-1", "50")
        texts = (*texts, "cardData", "siblings", "license:mit", "min:1,max:9T")
        names = (
            *("revision", "tensors", "recursive", "expand", "limit", "cursor", "search", "author"),
            *("blobs", "q", "order", "after", "before", "branch", "base", "dry_run", "progress"),
            *("repo", "by", "token", "to", "file", "create_pr", "sort", "direction", "method"),
            *("at", "full", "cardData", "filter", "pipeline_tag", "num_parameters", "expand[]"),
        )
        pairs = [
            f"{rng.choice(names)}={quote(rng.choice(texts), errors='surrogatepass')}"
            for _ in range(rng.choice([1, 1, 2, 3, 50]))
        ]
        if rng.random() < 0.02:
            pairs *= 40
        return "&".join(pairs)[:30_000]

    def _headers(self, rng: random.Random) -> dict[str, str]:
        found = {"Content-Type": rng.choice(_TYPES[:3])}
        odd = {
            "Range": lambda: "bytes=" + ",".join(f"{i}-{i}" for i in range(rng.choice([1, 4000]))),
            "If-None-Match": lambda: '"x",' * 2000,
            "If-Range": lambda: '"' + "a" * 1000 + '"',
            "Accept-Language": lambda: "de;q=0.1," * 2000,
            "Accept": lambda: "text/html;q=0." + "9" * 5000,
            "Accept-Encoding": lambda: "gzip," * 2000,
            "Cookie": lambda: "weightvault-session=" + "a.b;" * 4000,
            "Content-Type": lambda: rng.choice(_TYPES),
            "X-Forwarded-For": lambda: "1.1.1.1," * 2000,
            "Expect": lambda: "100-continue",
            "X-Odd": lambda: "x" * 20_000,
            "Origin": lambda: rng.choice(["http://[", "null", "http://" + "a" * 9999, "\x7f"]),
            "Host": lambda: rng.choice(["[", "a:b:c", "", "a" * 9999, "127.0.0.1:99999999"]),
            "Referer": lambda: "http://[",
            "Authorization": lambda: rng.choice(
                ["Basic %%%", "Bearer", "Basic OjpOUA==", "x" * 999]
            ),
            "Sec-Fetch-Site": lambda: rng.choice(["cross-site", "x" * 999]),
            "If-Modified-Since": lambda: "Mon, 99 Foo 99999 99:99:99 GMT",
            "Content-Length": lambda: rng.choice(["-1", "9" * 40, "0x10"]),
        }
        for name in rng.sample(sorted(odd), rng.choice([0, 0, 1, 2])):
            found[name] = odd[name]()
        return found

    # Bodies

    def _body(self, rng: random.Random, route: Route) -> tuple[str, bytes]:
        if route.method in ("GET", "HEAD"):
            return "no body", b""
        what, body = self._makers(route, rng)(rng, rng.choice(SIZES))
        return what, body[:MIB]

    def _makers(self, route: Route, rng: random.Random) -> Callable[..., tuple[str, bytes]]:
        special: dict[str, Callable[..., tuple[str, bytes]]] = {
            "/commit/": self._hub_commit,
            "/commits": self._manifest,
            "/packs/": self._pack,
            "/bases": self._sketches,
            "/frames": self._frames,
            "/v1/jobs": self._job,
            "/missing": self._digests,
            "validate-yaml": self._validated_card,
            "/batch": self._batch,
            "/preupload/": self._preupload,
            "paths-info": self._paths,
            "/create": self._names,
            "/move": self._names,
            "/parts/": _file,
            "/objects/{oid}": _file,
            "/xorbs/": self._pack,
            "/shards": self._pack,
            "sign-in": _form,
        }
        for name, maker in special.items():
            if name in route.pattern and rng.random() < 0.75:
                return maker
        return rng.choice((_json, _json, _form, _file, _noise))

    def _hub_commit(self, rng: random.Random, size: int) -> tuple[str, bytes]:
        lines = [json.dumps({"key": "header", "value": {"summary": "s" * rng.choice([1, 9999])}})]
        names: list[str] = []
        if rng.random() < 0.6:
            for share in [size] if rng.random() < 0.6 else [size // 20] * 20:
                name, (path, make) = rng.choice(list(FILE_BOMBS.items()))
                content = base64.b64encode(make(rng, share)[: share * 3 // 4]).decode()
                value = {"path": path, "content": content, "encoding": "base64"}
                lines.append(json.dumps({"key": "file", "value": value}))
                names.append(name)
        else:
            kind = rng.choice(["file", "deletedFile", "deletedFolder", "lfsFile", "x"])
            folder = "/".join(["d"] * rng.choice([1, 20, 400]))
            for i in range(size // (len(folder) + 90)):
                value = {"path": f"{folder}/{i}", "content": "", "oid": "0" * 64, "size": 1}
                lines.append(json.dumps({"key": kind, "value": value}))
            names.append(f"many {kind}")
        return f"commit of {', '.join(sorted(set(names)))[:60]}", "\n".join(lines).encode()

    def _manifest(self, rng: random.Random, _size: int) -> tuple[str, bytes]:
        if rng.random() < 0.4:
            return "a changed manifest", mutate(rng, rng.choice(self._target.manifests))
        if rng.random() < 0.3:
            return "a manifest", rng.choice(self._target.manifests)
        return "a manifest that expands", manifest_bomb(rng, self._target.digests)

    def _pack(self, rng: random.Random, _size: int) -> tuple[str, bytes]:
        return "a changed pack", mutate(rng, rng.choice(self._target.packs)[:MIB])

    def _sketches(self, rng: random.Random, _size: int) -> tuple[str, bytes]:
        bits = rng.choice(["00" * 32, "55" * 32, rng.randbytes(32).hex()])
        return "sketches", sketches_body(rng.choice([1, 500, 501]), bits, rng.choice([0, 64, 128]))

    def _digests(self, rng: random.Random, _size: int) -> tuple[str, bytes]:
        count = rng.choice([1, 10_000, 10_001])
        one = rng.choice(self._target.digests).hex()
        found = [one] * count
        if rng.random() < 0.5:
            found = [rng.randbytes(32).hex() for _ in range(count)]
        return "digests", json.dumps({"digests": found}).encode()

    def _frames(self, rng: random.Random, size: int) -> tuple[str, bytes]:
        """Frames with offers: of what there is, of what is not there, of one again and again."""
        if rng.random() < 0.3:
            return self._digests(rng, size)
        known = [digest.hex() for digest in self._target.digests]
        offers = {
            digest: rng.choices(known, k=rng.choice([1, 4, 4, 5]))
            for digest in [*known, *(rng.randbytes(32).hex() for _ in range(size // 340))]
        }
        return "offers", json.dumps({"digests": known, "offers": offers}).encode()

    def _job(self, rng: random.Random, _size: int) -> tuple[str, bytes]:
        kind = rng.choice(["optimise", "comparison", "check", [], "x" * 999])
        body = {"kind": kind, "dry_run": True} if kind == "optimise" else {"kind": kind}
        return "a job", json.dumps(body).encode()

    def _validated_card(self, rng: random.Random, size: int) -> tuple[str, bytes]:
        text = make_card(rng, size // 2).decode(errors="replace")
        return "a card", json.dumps({"content": text}).encode()

    def _batch(self, rng: random.Random, _size: int) -> tuple[str, bytes]:
        length = rng.choice([0, 1, 1 << 30, 1 << 42, (1 << 50) - 1, 1 << 50])
        objects = [{"oid": f"{i:064x}", "size": length} for i in range(rng.choice([1, 100, 1000]))]
        body = {"operation": rng.choice(["upload", "download", 1]), "objects": objects}
        return "a batch", json.dumps(body | {"transfers": ["basic", "multipart"]}).encode()

    def _preupload(self, rng: random.Random, size: int) -> tuple[str, bytes]:
        folder = "/".join(["d"] * rng.choice([1, 20, 400]))
        count = size // (len(folder) + 60)
        files = [{"path": f"{folder}/{i}", "size": 1, "sample": ""} for i in range(count)]
        return "files to upload", json.dumps({"files": files}).encode()

    def _paths(self, rng: random.Random, size: int) -> tuple[str, bytes]:
        path = rng.choice(self._target.paths)
        count = size // (len(path) + 8)
        if rng.random() < 0.5:
            return "paths as a form", (
                "&".join([f"paths={path}"] * count) + "&expand=true"
            ).encode()
        return "paths", json.dumps({"paths": [path] * count, "expand": True}).encode()

    def _names(self, rng: random.Random, _size: int) -> tuple[str, bytes]:
        odd = rng.choice(ODD)
        name = rng.choice([f"n{rng.randrange(20)}", odd, [odd], {"a": odd}])
        body = {"name": name, "organization": rng.choice(["acme", odd, None]), "type": "model"}
        ends = {"fromRepo": rng.choice(["acme/n1", odd]), "toRepo": rng.choice(["acme/n2", odd])}
        return "names", json.dumps(body | ends).encode()


def _json(rng: random.Random, size: int) -> tuple[str, bytes]:
    name = rng.choice(list(JSON_BOMBS))
    return f"JSON: {name}", JSON_BOMBS[name](rng, size)


def _form(rng: random.Random, size: int) -> tuple[str, bytes]:
    piece = rng.choice([b"a&", b"a=b&", b"token=%00&", b"%ff", b"=", b"paths=a&", b";", _MULTIPART])
    return "a form", piece * (size // len(piece))


def _file(rng: random.Random, size: int) -> tuple[str, bytes]:
    name, (_, make) = rng.choice(list(FILE_BOMBS.items()))
    return name, make(rng, size)[:MIB]


def _noise(rng: random.Random, size: int) -> tuple[str, bytes]:
    return "noise", rng.randbytes(size)
