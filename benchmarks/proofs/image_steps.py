"""Follows a Dockerfile where there is no container engine: its steps run in a chroot each.

FROM stands for a Debian of debootstrap's with Debian's Python, whatever Python the image names.
COPY heeds the .dockerignore beside the Dockerfile. Needs root and debootstrap.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

_RELEASE = "bookworm"
_PACKAGES = "ca-certificates,python3,python3-venv"
_FOUND_BY_HOST = ("resolv.conf", "ssl/certs/ca-certificates.crt")


@dataclass
class Image:
    """A root file system, and what the Dockerfile says of the process in it."""

    root: Path
    name: str | None = None
    folder: str = "/"
    env: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    steps: int = 0


def make_base(base: Path) -> None:
    """Makes the file system that every stage begins with, unless it is there."""
    if (base / "usr/bin/python3").exists():
        return
    command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _RELEASE, str(base)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def build_image(dockerfile: Path, context: Path, base: Path, folder: Path) -> Image:
    """Follows all steps; returns what the last stage made."""
    ignored = Path(f"{dockerfile}.dockerignore").read_text().split()
    stages: list[Image] = []
    for word, rest in read_steps(dockerfile.read_text()):
        if word == "FROM":
            stages.append(_begin(base, folder / f"stage-{len(stages)}", rest))
            continue
        _STEPS[word](_Step(stages, context, ignored), rest)
        stages[-1].steps += 1
    return stages[-1]


def read_steps(text: str) -> list[tuple[str, str]]:
    """Returns the instructions of a Dockerfile: the word, and what stands behind it."""
    lines = [line for line in text.splitlines() if not re.match(r"\s*(#|$)", line)]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [
        (word, rest.strip()) for word, _, rest in (x.partition(" ") for x in joined.splitlines())
    ]


def run_in(root: Path, command: list[str], env: dict[str, str], folder: str = "/") -> None:
    """Runs a command in a root file system, as its user 0."""
    inside = shlex.join(["env", "-i", *(f"{k}={v}" for k, v in env.items()), *command])
    steps = ["mount --make-rprivate /", f"mount -t proc proc {root}/proc"]
    steps.append(f"mount --rbind /dev {root}/dev")
    steps.append(f"exec chroot {root} sh -c {shlex.quote(f'cd {folder} && exec {inside}')}")
    script = " && ".join(steps)
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")


def _begin(base: Path, root: Path, rest: str) -> Image:
    _, _, name = rest.partition(" AS ")
    subprocess.run(["cp", "-a", "--reflink=auto", str(base), str(root)], check=True)
    for file in _FOUND_BY_HOST:
        shutil.copy(Path("/etc") / file, root / "etc" / file)
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return Image(root, name or None, env={"PATH": path})


@dataclass(frozen=True)
class _Step:
    """Where a step is done."""

    stages: list[Image]
    context: Path
    ignored: list[str]

    @property
    def image(self) -> Image:
        return self.stages[-1]

    def work(self, rest: str) -> None:
        """WORKDIR"""
        self.image.folder = rest
        self._inside(rest).mkdir(parents=True, exist_ok=True)

    def copy(self, rest: str) -> None:
        """COPY"""
        named, source, target = re.fullmatch(r"(?:--from=(\S+) )?(\S+) (\S+)", rest).groups()  # type: ignore[union-attr]
        there = self._inside(os.path.join(self.image.folder, target))
        if named:
            (stage,) = [each for each in self.stages if each.name == named]
            there.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-a", f"{stage.root}{source}", str(there)], check=True)
            return
        shutil.copytree(self.context / source, there, ignore=self._ignore, dirs_exist_ok=True)

    def run(self, rest: str) -> None:
        """RUN"""
        # How this machine reaches the package index is no matter of the image.
        env = {k: v for k, v in os.environ.items() if k in ("PIP_INDEX_URL", "PIP_DEFAULT_TIMEOUT")}
        run_in(self.image.root, ["sh", "-c", rest], env | self.image.env, self.image.folder)

    def set_env(self, rest: str) -> None:
        """ENV"""
        for name, value in (part.split("=", 1) for part in shlex.split(rest)):
            self.image.env[name] = value.replace("$PATH", self.image.env["PATH"])

    def user(self, rest: str) -> None:
        """USER"""
        self.image.user = rest

    def check(self, rest: str) -> None:
        """HEALTHCHECK"""
        self.image.health = json.loads(rest[rest.index("CMD") + 3 :])

    def enter(self, rest: str) -> None:
        """ENTRYPOINT"""
        self.image.entrypoint = json.loads(rest)

    def command(self, rest: str) -> None:
        """CMD"""
        self.image.command = json.loads(rest)

    def nothing(self, _rest: str) -> None:
        """VOLUME and EXPOSE say what compose says again."""

    def _inside(self, path: str) -> Path:
        return self.image.root / path.lstrip("/")

    def _ignore(self, folder: str, names: list[str]) -> set[str]:
        below = os.path.relpath(folder, self.context)
        found = set()
        for pattern in self.ignored:
            anywhere = pattern.removeprefix("**/")
            if below == "." or anywhere != pattern:
                found |= set(fnmatch.filter(names, anywhere))
        return found


_STEPS = {
    "WORKDIR": _Step.work,
    "COPY": _Step.copy,
    "RUN": _Step.run,
    "ENV": _Step.set_env,
    "USER": _Step.user,
    "HEALTHCHECK": _Step.check,
    "ENTRYPOINT": _Step.enter,
    "CMD": _Step.command,
    "VOLUME": _Step.nothing,
    "EXPOSE": _Step.nothing,
}
