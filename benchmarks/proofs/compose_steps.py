"""Runs the services of a compose file as processes, where there is no container engine.

Commands, environment, health checks, order, volumes and the confinement of our services are read
from the file; each service has its own address under its own name, in a network namespace of this
process. PostgreSQL and Caddy are Debian's, and the S3 server of the tests stands in for MinIO: of
these three only the environment and the files that they mount are those of the file.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ..support.tests_support import load_helper
from .image_steps import Image

_READY_SECONDS = 300.0
_END_SECONDS = 15.0
_Process = subprocess.Popen[bytes]


class Compose:
    """The services of a compose file, and what stands in `.env` beside it."""

    def __init__(self, file: Path, env: Mapping[str, str], image: Image, work: Path) -> None:
        self.file = file
        self.image = image
        self.work = work
        self._document = _fill_in(yaml.safe_load(file.read_text()), env)
        self.services: dict[str, dict[str, Any]] = self._document["services"]
        (subnet,) = (c["subnet"] for c in self._document["networks"]["inside"]["ipam"]["config"])
        self._prefix, self._bits = subnet.rpartition(".")[0], subnet.partition("/")[2]
        self.running: dict[str, _Process] = {}
        self._started: set[str] = set()

    def address(self, service: str) -> str:
        """Returns the address of a service in the network of the file."""
        return f"{self._prefix}.{2 + list(self.services).index(service)}"

    def make_network(self, names: Mapping[str, str]) -> None:
        """Gives each service its address and its name, and `names` those of services, in the
        namespaces of this process, which must be its own."""
        hosts = ["127.0.0.1 localhost"]
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        for service in self.services:
            address = self.address(service)
            subprocess.run(
                ["ip", "addr", "add", f"{address}/{self._bits}", "dev", "lo"], check=True
            )
            also = " ".join(name for name, of in names.items() if of == service)
            hosts.append(f"{address} {service} {also}")
        file = self.work / "hosts"
        file.write_text("\n".join(hosts) + "\n")
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["mount", "--bind", str(file), "/etc/hosts"], check=True)
        shutil.copy(file, self.image.root / "etc/hosts")

    def up(self) -> Iterator[str]:
        """Starts all services in the order of what they depend on, and yields what was done."""
        for name in self._in_order():
            yield from self._start_once(name)
        for name in [n for n in self.running if self._health_of(n) is not None]:
            self._wait_healthy(name)
            yield f"{name} healthy"

    def down(self) -> Iterator[str]:
        """Ends all services, the last ones first; yields what each took."""
        for name in reversed(list(self.running)):
            process, began = self.running.pop(name), time.monotonic()
            process.terminate()
            try:
                status = process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise AssertionError(f"{name} does not end: {self.log(name)}") from None
            yield f"{name} ended ({status}) in {time.monotonic() - began:.1f} s"

    def run(self, service: str, *words: str) -> str:
        """Runs the image's command with other words, when what the service needs is there, as
        `docker compose run` does."""
        for needed, _ in _needs(self.services[service]):
            list(self._start_once(needed))
        list(self._wait_for_needs(service))
        return self.execute(service, *self.image.entrypoint, *words)

    def execute(self, service: str, *command: str) -> str:
        """Runs a command beside a service of our image, as `docker compose exec` does."""
        done = subprocess.run(
            self._contained(service, [*command]), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def log(self, service: str) -> str:
        """Returns the end of what a service wrote."""
        return (self.work / f"{service}.log").read_text()[-3000:]

    def _start_once(self, name: str) -> Iterator[str]:
        if name in self._started:
            return
        for needed, _ in _needs(self.services[name]):
            yield from self._start_once(needed)
        yield from self._wait_for_needs(name)
        self.running[name] = self._start(name)
        self._started.add(name)
        yield f"{name} started"

    def _wait_for_needs(self, name: str) -> Iterator[str]:
        for needed, condition in _needs(self.services[name]):
            assert condition in ("service_started", "service_healthy", _COMPLETED), condition
            if condition == "service_healthy":
                self._wait_healthy(needed)
            if condition == _COMPLETED and needed in self.running:
                assert self.running.pop(needed).wait(_READY_SECONDS) == 0, self.log(needed)
                yield f"{needed} completed"

    def _in_order(self) -> list[str]:
        order: list[str] = []
        while len(order) < len(self.services):
            ready = [
                name
                for name, service in self.services.items()
                if name not in order and all(needed in order for needed, _ in _needs(service))
            ]
            assert ready, "services depend on each other in a circle"
            order.append(ready[0])
        return order

    def _start(self, name: str) -> _Process:
        kind = self.services[name]["image"].rpartition("/")[2].partition(":")[0]
        with (self.work / f"{name}.log").open("ab") as log:
            if kind in _OTHERS:
                return _OTHERS[kind](self, name, log)
            command = self._contained(name, self._command_of(name))
            return subprocess.Popen(command, stdout=log, stderr=log)

    def _command_of(self, name: str) -> list[str]:
        service = self.services[name]
        entry = service.get("entrypoint", self.image.entrypoint)
        return [*entry, *service.get("command", self.image.command)]

    def _contained(self, name: str, command: list[str]) -> list[str]:
        """Returns what runs a command confined as the file says, in the image's file system."""
        service, root, user = self.services[name], self.image.root, self.image.user
        script = [f"mount --bind {root} {root}"]
        if service.get("read_only"):
            script.append(f"mount -o remount,ro,bind {root}")
        script += [f"mount -t tmpfs tmpfs {root}{path}" for path in service.get("tmpfs", ())]
        for volume, path in (mount.split(":")[:2] for mount in service.get("volumes", ())):
            script.append(f"mount --bind {self._volume(volume, root / path[1:])} {root}{path}")
        script += [f"mount -t proc proc {root}/proc", f"mount --rbind /dev {root}/dev"]
        uid, _, gid = user.partition(":")
        confined = ["setpriv", "--reuid", uid, "--regid", gid, "--clear-groups"]
        if service.get("cap_drop") == ["ALL"]:
            confined += ["--bounding-set=-all", "--inh-caps=-all"]
        if "no-new-privileges:true" in service.get("security_opt", ()):
            confined.append("--no-new-privs")
        env = {**self.image.env, **service.get("environment", {})}
        confined += ["env", "-i", *(f"{key}={value}" for key, value in env.items()), *command]
        script.append(f"exec chroot {root} {shlex.join(confined)}")
        return ["unshare", "--mount", "sh", "-c", " && ".join(script)]

    def _volume(self, name: str, there: Path) -> Path:
        folder = self.work / "volumes" / name
        if not folder.exists():
            # A new volume begins as what the image has there.
            folder.parent.mkdir(exist_ok=True)
            subprocess.run(["cp", "-a", str(there), str(folder)], check=True)
        return folder

    def _health_of(self, name: str) -> Callable[[], bool] | None:
        service = self.services[name]
        if service.get("healthcheck", {}).get("disable") or name == "bucket":
            return None
        if name == "s3":
            return lambda: _answers(f"http://{self.address(name)}:9000/_ministack/health")
        if name == "postgres":
            kind, *check = service["healthcheck"]["test"]
            assert kind == "CMD"
            host = {"PATH": os.environ["PATH"], "PGHOST": self.address(name)}
            return lambda: subprocess.run(check, env=host, capture_output=True).returncode == 0
        if service["image"] != self.services["weightvault"]["image"]:
            return None
        check = self._contained(name, self.image.health)
        return lambda: subprocess.run(check, capture_output=True).returncode == 0

    def _wait_healthy(self, name: str) -> None:
        healthy, until = self._health_of(name), time.monotonic() + _READY_SECONDS
        assert healthy is not None, f"{name} has no health check"
        while not healthy():
            assert self.running[name].poll() is None, self.log(name)
            assert time.monotonic() < until, self.log(name)
            time.sleep(0.5)


_COMPLETED = "service_completed_successfully"


def _needs(service: dict[str, Any]) -> list[tuple[str, str]]:
    needs = service.get("depends_on", {})
    if isinstance(needs, list):
        return [(name, "service_started") for name in needs]
    return [(name, how["condition"]) for name, how in needs.items()]


def _fill_in(value: Any, env: Mapping[str, str]) -> Any:
    """Puts variables in their places, as compose does: `${A}`, `${A:-usual}`, `${A:?}`."""
    if isinstance(value, dict):
        return {key: _fill_in(each, env) for key, each in value.items()}
    if isinstance(value, list):
        return [_fill_in(each, env) for each in value]
    if not isinstance(value, str):
        return value

    def find(match: re.Match[str]) -> str:
        name, kind, usual = match.groups()
        assert env.get(name) or kind != "?", f"{name} is not set"
        return env.get(name) or (usual if kind == "-" else "")

    return re.sub(r"\$\{(\w+)(?::([-?])([^}]*))?\}", find, value)


def _answers(url: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5):
            return True
    except OSError:
        return False


# What stands in for images of others


def _start_postgres(compose: Compose, name: str, log: Any) -> _Process:
    env = compose.services[name]["environment"]
    programs = load_helper("postgres_server").find_programs()
    assert programs is not None, "no PostgreSQL"
    folder, user = compose.work / name, env["POSTGRES_USER"]
    folder.mkdir()
    (folder / "password").write_text(env["POSTGRES_PASSWORD"])
    (folder / "socket").mkdir()
    subprocess.run(["chown", "-R", "postgres", str(folder)], check=True)
    compose.work.chmod(0o711)
    begin = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"]
    secret = ["-A", "scram-sha-256", f"--pwfile={folder}/password"]
    initdb = [f"{programs}/initdb", "-D", f"{folder}/data", "-U", user, *secret, "-E", "UTF8"]
    subprocess.run([*begin, *initdb], check=True, stdout=log, stderr=log, cwd="/")
    with (folder / "data/pg_hba.conf").open("a") as rules:
        rules.write("host all all all scram-sha-256\n")
    single = [f"{programs}/postgres", "--single", "-D", f"{folder}/data", "postgres"]
    make = f"CREATE DATABASE {env.get('POSTGRES_DB', user)};\n".encode()
    subprocess.run([*begin, *single], input=make, check=True, stdout=log, stderr=log, cwd="/")
    serve = [f"{programs}/postgres", "-D", f"{folder}/data", "-k", f"{folder}/socket"]
    serve += ["-c", f"listen_addresses={compose.address(name)}"]
    return subprocess.Popen([*begin, *serve], stdout=log, stderr=log, cwd="/")


def _start_s3(compose: Compose, name: str, log: Any) -> _Process:
    env = compose.services[name]["environment"]
    executable = load_helper("s3_server").find_executable()
    assert executable is not None, "no S3 server"
    folder = compose.work / name
    folder.mkdir()
    options = {
        "PATH": os.environ["PATH"],
        "TMPDIR": str(folder),
        "BIND_HOST": compose.address(name),
        "GATEWAY_PORT": "9000",
        "SERVICES": "s3",
        "LOG_LEVEL": "WARNING",
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(folder / "data"),
        "AUTH": "true",
        "AWS_ACCESS_KEY_ID": env["MINIO_ROOT_USER"],
        "AWS_SECRET_ACCESS_KEY": env["MINIO_ROOT_PASSWORD"],
    }
    return subprocess.Popen([executable], env=options, stdout=log, stderr=log)


def _start_caddy(compose: Compose, name: str, log: Any) -> _Process:
    service = compose.services[name]
    (mounted,) = (m.split(":")[0] for m in service["volumes"] if "Caddyfile" in m)
    folder = compose.work / name
    folder.mkdir()
    # The file as it is; what stands before it leaves this machine's certificates alone.
    (folder / "Caddyfile").write_text(
        f"{{\n admin off\n skip_install_trust\n storage file_system {folder}\n}}\n"
        f"import {(compose.file.parent / mounted).resolve()}\n"
    )
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), **service["environment"]}
    command = ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
    return subprocess.Popen(command, env=env, stdout=log, stderr=log)


_OTHERS: dict[str, Callable[[Compose, str, Any], _Process]] = {
    "postgres": _start_postgres,
    "minio": _start_s3,
    "caddy": _start_caddy,
}

if __name__ == "__main__":
    sys.exit(__doc__)
