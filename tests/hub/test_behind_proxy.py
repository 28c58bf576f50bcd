"""A server below a path of a reverse proxy with TLS: clients, pages, sessions and signed addresses
work as they do without one."""

from __future__ import annotations

import os
import re
import shutil
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest
from caddy import HOW_TO_INSTALL, Proxy, proxied
from hub_clients import NO_XET, VERSIONS, Hub, checked, client_environment, find_python
from models import make_weights, read_folder, write_model

from weightvault.api.client.http_vault import HttpVault
from weightvault.api.requests.settings import ConnectionLimits
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push

ROOT = "/teams/models"
CLIENT = VERSIONS["2.4"]
# A proxy that takes the path away, and one that leaves it.
STRIPS = f" handle_path {ROOT}/* {{\n  reverse_proxy SERVER\n }}\n respond 404"
LEAVES = f" handle {ROOT}/* {{\n  reverse_proxy SERVER\n }}\n respond 404"


@dataclass(frozen=True)
class World:
    """A hub and the proxy in front of it."""

    hub: Hub
    proxy: Proxy
    url: str

    def web(self, **options) -> httpx.Client:
        context = ssl.create_default_context(cafile=str(self.proxy.certificate))
        return httpx.Client(verify=context, trust_env=False, timeout=60, **options)


@pytest.fixture
def start(start_hub: Callable[..., Hub], tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Starts a server and a proxy with these routes."""
    if shutil.which("caddy") is None:
        end = pytest.fail if os.environ.get("CI") else pytest.skip
        end(HOW_TO_INSTALL)
    with ExitStack() as stack:

        def begin(routes: str, scheme: str = "https") -> World:
            limits = ConnectionLimits(trusted_proxies=("127.0.0.1",))
            hub = start_hub(root_path=ROOT, connections=limits)
            proxy = stack.enter_context(proxied(hub.url, tmp_path, routes, scheme))
            return World(hub, proxy, proxy.url + ROOT)

        yield begin


def links_of(page: str) -> set[str]:
    """The addresses that a page leads to, or sends forms to, on this server."""
    found = re.findall(r'(?:href|src|action)="([^"#]+)', page)
    return {address.replace("&amp;", "&") for address in found if address.startswith("/")}


@pytest.mark.parametrize("routes", [STRIPS, LEAVES], ids=["strips", "leaves"])
def test_pages_and_sessions(start: Callable[..., World], tmp_path: Path, routes: str):
    world = start(routes)
    push(world.hub.vault, write_model(tmp_path / "m", make_weights(1)), "me/model")
    token = world.hub.token("admin")
    with world.web() as web:
        form = web.get(f"{world.url}/-/sign-in", params={"to": "/me/model/tree/main"})
        assert f'action="{ROOT}/-/sign-in"' in form.text
        sent = {"token": token, "to": "/me/model/tree/main"}
        back = web.post(f"{world.url}/-/sign-in", data=sent, headers={"Origin": world.proxy.url})
        assert (back.status_code, back.headers["location"]) == (303, f"{ROOT}/me/model/tree/main")
        cookie = back.headers["set-cookie"]
        assert f"Path={ROOT}/" in cookie
        assert "Secure" in cookie
        # All that the pages lead to is there.
        seen, waiting = set[str](), {f"{ROOT}/"}
        while waiting:
            address = waiting.pop()
            seen.add(address)
            answer = web.get(urljoin(world.proxy.url, address))
            assert answer.status_code in (200, 405), address
            if answer.headers["content-type"].startswith("text/html"):
                links = links_of(answer.text)
                assert all(link.startswith(f"{ROOT}/") for link in links), (address, links)
                waiting |= links - seen
        assert {f"{ROOT}/-/storage", f"{ROOT}/me/model", f"{ROOT}/me/model/tensors/main"} <= seen
        assert world.url in web.get(f"{world.url}/me/model").text
        described = web.get(f"{world.url}/openapi.json").json()
        assert described["servers"] == [{"url": ROOT}]
        web.post(f"{world.url}/-/sign-out", headers={"Origin": world.proxy.url})
        assert web.get(f"{world.url}/me/model").status_code == 404


def test_the_native_client(start: Callable[..., World], tmp_path: Path, monkeypatch):
    world = start(STRIPS)
    token = world.hub.token("write", "me")
    monkeypatch.setenv("SSL_CERT_FILE", str(world.proxy.certificate))
    folder = write_model(tmp_path / "m", make_weights(1))
    vault = HttpVault(world.url, token=token)
    push(vault, folder, "me/native")
    pull(vault, "me/native", tmp_path / "native")
    assert read_folder(tmp_path / "native") == read_folder(folder)
    vault.close()


# What uploads through Xet trusts the certificates that it came with, and no other.
@pytest.mark.parametrize(("scheme", "extra"), [("https", NO_XET), ("http", {})], ids=["tls", "xet"])
def test_the_client_of_hubs(
    start: Callable[..., World], tmp_path: Path, scheme: str, extra: dict[str, str]
):
    world = start(STRIPS, scheme)
    folder = write_model(tmp_path / "m", make_weights(1, {"w": (300, 400)}))
    settings = {"HF_ENDPOINT": world.url, "HF_TOKEN": world.hub.token("write", "me")}
    settings |= {"SSL_CERT_FILE": str(world.proxy.certificate), **extra}
    script = (
        "import sys, huggingface_hub as hub\n"
        "hub.create_repo('me/stock')\n"
        "made = hub.upload_folder(repo_id='me/stock', folder_path=sys.argv[1])\n"
        "print(made.commit_url)\n"
        "hub.snapshot_download('me/stock', local_dir=sys.argv[2])\n"
    )
    python = find_python(CLIENT)
    env = client_environment(tmp_path / "home", settings)
    done = checked([str(python), "-c", script, str(folder), str(tmp_path / "stock")], env)
    assert done.stdout.startswith(f"{world.url}/me/stock/commit/")
    sent, got = read_folder(folder), read_folder(tmp_path / "stock")
    assert {name: got[name] for name in sent} == sent


def test_git_lfs(start: Callable[..., World], tmp_path: Path):
    if shutil.which("git-lfs") is None:
        end = pytest.fail if os.environ.get("CI") else pytest.skip
        end("git-lfs is missing: apt-get install git-lfs")
    world = start(STRIPS)
    token = world.hub.token("write", "me")
    with world.web(headers={"Authorization": f"Bearer {token}"}) as web:
        made = web.post(f"{world.url}/api/repos/create", json={"name": "lfs", "type": "model"})
        assert made.json()["url"] == f"{world.url}/me/lfs"
    (tmp_path / "home").mkdir()
    settings = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_SSL_CAINFO": str(world.proxy.certificate)}
    env = client_environment(tmp_path / "home", settings)
    work, bare = tmp_path / "work", tmp_path / "bare"
    address = world.url.replace("://", f"://me:{token}@")

    def git(*arguments: str) -> None:
        checked(["git", *arguments], env, work)

    checked(["git", "init", "--bare", "-q", "-b", "main", str(bare)], env)
    checked(["git", "init", "-q", "-b", "main", str(work)], env)
    git("config", "user.name", "me")
    git("config", "user.email", "me@example.org")
    git("lfs", "install", "--local")
    git("config", "lfs.url", f"{address}/me/lfs.git/info/lfs")
    git("lfs", "track", "*.bin")
    content = os.urandom(300_000)
    (work / "w.bin").write_bytes(content)
    git("add", ".")
    git("commit", "-q", "-m", "weights")
    git("remote", "add", "origin", str(bare))
    git("push", "-q", "origin", "main")
    shutil.rmtree(work / ".git" / "lfs" / "objects")
    (work / "w.bin").unlink()
    git("lfs", "fetch")
    git("checkout", "-q", "w.bin")
    assert (work / "w.bin").read_bytes() == content
