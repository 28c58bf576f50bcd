"""Installs a hub by the steps of docs/deploy/compose.yaml, as processes, and uses it.

    python -m weightvault.benchmarks.proofs.first_install [--base FOLDER]

Needs root, debootstrap, PostgreSQL 15, Caddy, and .venv-s3, .venv-hf-2 of the tests; the network
for Debian's and Python's packages. `--base` keeps the Debian that images begin with. Takes 4
minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import httpx

from ..support.tests_support import load_helper
from ..support.tiny_models import write_tiny_model
from .compose_steps import Compose
from .image_steps import Image, build_image, make_base

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs" / "deploy"
NAME, PATH = "hub.localhost", "/models"


def find_lack() -> str | None:
    """Says what this machine lacks for it, if anything."""
    programs = ("debootstrap", "caddy", "unshare", "setpriv", "ip")
    missing = [name for name in programs if shutil.which(name) is None]
    if os.geteuid() != 0:
        return "root"
    return ", ".join(missing) or None


def install(base: Path | None) -> Iterator[tuple[str, float]]:
    """Yields what was done and what it took in seconds. Raises where a step fails."""
    with tempfile.TemporaryDirectory(prefix="wv-install-", dir="/tmp") as folder:
        work, began = Path(folder), time.monotonic()
        system = base or work / "base"
        make_base(system)
        yield "a Debian for the image", time.monotonic() - began
        began = time.monotonic()
        image = build_image(DEPLOY / "Dockerfile", ROOT, system, work)
        yield f"{image.steps} steps of the image's last stage", time.monotonic() - began
        (work / "image").write_text(json.dumps(asdict(image), default=str))
        command = [
            sys.executable,
            "-m",
            __spec__.name if __spec__ else __name__,
            "--inside",
            folder,
        ]
        inside = subprocess.Popen(
            ["unshare", "--net", "--mount", *command], stdout=subprocess.PIPE, text=True
        )
        assert inside.stdout is not None
        for line in inside.stdout:
            text, _, seconds = line.strip().rpartition("\t")
            yield text, float(seconds)
        if inside.wait():
            raise RuntimeError("the installation failed")


def run_inside(work: Path) -> None:
    """Brings the services up in the namespaces of this process, uses them and ends them."""
    told = json.loads((work / "image").read_text())
    image = Image(**(told | {"root": Path(told["root"])}))
    env = dict.fromkeys(_variables(), "")
    env |= {"HUB_NAME": NAME, "HUB_PATH": PATH, "S3_KEY": secrets.token_hex(8)}
    env |= {"S3_SECRET": secrets.token_hex(16), "POSTGRES_PASSWORD": secrets.token_hex(16)}
    compose = Compose(DEPLOY / "compose.yaml", env, image, work)
    compose.make_network({NAME: "caddy"})
    began = time.monotonic()

    def tell(text: str) -> None:
        print(f"{text}\t{time.monotonic() - began:.1f}", flush=True)

    try:
        # Before anybody can reach it: a server without tokens is open.
        token = compose.run("weightvault", "token", "create", "--name", "me", "--role", "admin")
        tell("token made")
        for done in compose.up():
            tell(done)
        for done in use(compose, work, token):
            tell(done)
        for done in compose.down():
            tell(done)
    finally:
        for process in compose.running.values():
            process.kill()


def use(compose: Compose, work: Path, token: str) -> Iterator[str]:
    """Does what an operator does next, and a client, a browser and a hub's client after that."""
    assert compose.execute("weightvault", "id", "-u") == "10001"
    denied = "touch /etc/x 2>&1; touch /var/lib/weightvault/x && echo volume"
    said = compose.execute("weightvault", "sh", "-c", denied)
    assert "Read-only file system" in said, said
    assert said.endswith("volume"), said
    yield "user 10001, a root that is read-only"
    url = f"https://{NAME}{PATH}"
    (authority,) = (work / "caddy").glob("pki/authorities/local/root.crt")
    web = httpx.Client(verify=ssl.create_default_context(cafile=str(authority)), trust_env=False)
    _wait_for_proxy(web, url)
    assert web.get(f"{url}/v1/tokens").status_code == 401
    model = write_tiny_model(work / "model", 1)
    shown = {**os.environ, "WEIGHTVAULT_TOKEN": token, "SSL_CERT_FILE": str(authority)}
    _client(shown, "--vault", url, "push", str(model), "me/model")
    _client(shown, "--vault", url, "pull", "me/model", str(work / "pulled"))
    _same(model, work / "pulled")
    yield "pushed and pulled below a path, over TLS"
    form = {"token": token, "to": "/me/model"}
    signed = web.post(f"{url}/-/sign-in", data=form, headers={"Origin": f"https://{NAME}"})
    assert signed.headers["location"] == f"{PATH}/me/model", signed.text
    assert "me/model" in web.get(f"{url}/me/model").text
    yield "signed in, pages shown"
    _hub_client(work, url, token, authority, model)
    yield "a hub's client uploads to and downloads from signed addresses"
    deadline = time.monotonic() + 120
    bearer = {"Authorization": f"Bearer {token}"}
    while 'queue="uncoded"} 0.0' not in web.get(f"{url}/metrics", headers=bearer).text:
        assert time.monotonic() < deadline, compose.log("work")
        time.sleep(0.5)
    found = compose.execute("weightvault", "weightvault", "check")
    assert found.endswith("all well"), found
    yield f"nothing waits to be encoded; {found}"


def _variables() -> list[str]:
    lines = (DEPLOY / "example.env").read_text().splitlines()
    return [line.partition("=")[0] for line in lines if not line.startswith("#")]


def _wait_for_proxy(web: httpx.Client, url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if web.get(f"{url}/health").json()["status"] == "ok":
                return
        except (httpx.HTTPError, ValueError):
            assert time.monotonic() < deadline, "the proxy does not answer"
        time.sleep(0.5)


def _client(env: dict[str, str], *words: str) -> None:
    command = [sys.executable, "-m", "weightvault.api.cli.main", *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _hub_client(work: Path, url: str, token: str, authority: Path, model: Path) -> None:
    clients = load_helper("hub_clients")
    (work / "home").mkdir()
    settings = {"HF_ENDPOINT": url, "HF_TOKEN": token, "SSL_CERT_FILE": str(authority)}
    script = (
        "import sys, huggingface_hub as hub\n"
        "hub.create_repo('me/stock')\n"
        "hub.upload_folder(repo_id='me/stock', folder_path=sys.argv[1])\n"
        "hub.snapshot_download('me/stock', local_dir=sys.argv[2])\n"
    )
    python = clients.find_python(clients.VERSIONS["2.4"])
    env = clients.client_environment(work / "home", {**settings, **clients.NO_XET})
    clients.checked([str(python), "-c", script, str(model), str(work / "stock")], env)
    _same(model, work / "stock")


def _same(one: Path, other: Path) -> None:
    for file in (path for path in one.iterdir() if path.is_file()):
        assert file.read_bytes() == (other / file.name).read_bytes(), file.name


def main() -> None:
    """Installs, and prints what was done."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", type=Path, metavar="FOLDER", help="a Debian that is kept")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        run_inside(arguments.inside)
        return
    lack = find_lack()
    if lack:
        parser.error(f"needs {lack}")
    for text, seconds in install(arguments.base):
        print(f"{seconds:7.1f} s  {text}", flush=True)


if __name__ == "__main__":
    main()
