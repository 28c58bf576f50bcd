"""What the local backend does to the file system: in which order, and what faults leave behind."""

import errno
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from weightvault.store.backends.local import STALE_SECONDS, LocalBackend
from weightvault.store.errors import (
    AccessDenied,
    CorruptObject,
    InvalidKey,
    NoSuchStore,
    NotFound,
    StorageFull,
    StoreError,
    Unavailable,
)


def files_below(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "vault"


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The calls that make a write durable, in their order, with the files they were for."""
    steps: list[tuple[str, str]] = []
    fsync, replace, mkdir = os.fsync, os.replace, os.mkdir

    def record_fsync(handle: int) -> None:
        steps.append(("fsync", os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    def record_replace(source: Path, target: Path) -> None:
        steps.append(("replace", str(target)))
        replace(source, target)

    def record_mkdir(path: Path, mode: int = 0o777) -> None:
        mkdir(path, mode)
        steps.append(("mkdir", str(path)))

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    monkeypatch.setattr(os, "mkdir", record_mkdir)
    return steps


linux = pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc to name files")


@linux
def test_a_put_syncs_the_file_and_every_folder_on_its_way(
    root: Path, tmp_path: Path, steps: list[tuple[str, str]]
) -> None:
    LocalBackend(root).put("packs/ab/c", b"x")
    temp = steps[6][1]
    assert Path(temp).parent == root / "tmp"
    assert steps == [
        ("mkdir", str(tmp_path / "deep")),
        ("fsync", str(tmp_path)),
        ("mkdir", str(root)),
        ("fsync", str(tmp_path / "deep")),
        ("mkdir", str(root / "tmp")),
        ("fsync", str(root)),
        ("fsync", temp),
        ("mkdir", str(root / "packs")),
        ("fsync", str(root)),
        ("mkdir", str(root / "packs/ab")),
        ("fsync", str(root / "packs")),
        ("replace", str(root / "packs/ab/c")),
        ("fsync", str(root / "packs/ab")),
    ]


@linux
def test_known_folders_are_not_synced_again_found_ones_are(
    root: Path, steps: list[tuple[str, str]]
) -> None:
    backend = LocalBackend(root)
    backend.put("packs/ab/c", b"x")
    steps.clear()
    backend.put("packs/ab/d", b"x")
    assert [step for step, _ in steps] == ["fsync", "replace", "fsync"]
    steps.clear()
    LocalBackend(root).put("packs/ab/e", b"x")
    synced = [path for step, path in steps if step == "fsync"]
    assert {str(root), str(root / "packs"), str(root / "packs/ab")} <= set(synced)


@linux
def test_durability_can_be_given_up(root: Path, steps: list[tuple[str, str]]) -> None:
    backend = LocalBackend(root, fsync=False)
    backend.put("a", b"x")
    backend.delete("a")
    assert "fsync" not in [step for step, _ in steps]


def test_reading_makes_no_folder(root: Path) -> None:
    backend = LocalBackend(root)
    assert list(backend.list()) == []
    assert not backend.exists("a")
    backend.delete("a")
    with pytest.raises(NotFound):
        backend.get("a")
    assert not root.parent.exists()


def test_a_file_in_the_place_of_the_root(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NoSuchStore, match="file is not a folder"):
        LocalBackend(tmp_path / "file")
    below = LocalBackend(tmp_path / "file" / "vault")
    assert list(below.list()) == []
    with pytest.raises(NoSuchStore, match="cannot keep objects"):
        below.put("a", b"x")


def test_a_key_cannot_be_the_folder_of_another(root: Path) -> None:
    backend = LocalBackend(root)
    backend.put("a/b", b"x")
    for key in ("a", "a/b/c"):
        with pytest.raises(InvalidKey, match="folder of another"):
            backend.put(key, b"y")
    assert files_below(root) == ["a/b"]
    assert backend.get("a/b") == b"x"


FAILING = [
    (errno.ENOSPC, StorageFull),
    (errno.EDQUOT, StorageFull),
    (errno.EIO, Unavailable),
    (errno.EACCES, AccessDenied),
    (errno.EROFS, AccessDenied),
    (errno.ENAMETOOLONG, StoreError),
]


@pytest.mark.parametrize("call", ["fsync", "replace", "mkdir"])
@pytest.mark.parametrize(("number", "expected"), FAILING)
def test_a_write_that_fails_leaves_the_old_state(
    root: Path,
    call: str,
    number: int,
    expected: type[StoreError],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    LocalBackend(root).put("a", b"old")
    (root / "tmp").rmdir()
    backend = LocalBackend(root)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(expected, match="cannot write") as caught:
            backend.put("a", b"new")
    assert type(caught.value) is expected
    assert files_below(root) == ["a"]
    assert backend.get("a") == b"old"
    backend.put("a", b"new")
    assert backend.get("a") == b"new"


@pytest.mark.parametrize("way", ["put", "put_file"])
def test_a_file_that_may_not_grow_further_is_a_full_store(
    root: Path, tmp_path: Path, way: str
) -> None:
    """The kernel itself refuses, in the middle of writing."""
    (tmp_path / "source").write_bytes(bytes(3 << 20))
    script = f"""
        import resource, sys
        from weightvault.store.errors import StorageFull
        from weightvault.store.backends.local import LocalBackend
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))
        backend = LocalBackend(sys.argv[1])
        backend.put("fits", bytes(2 << 20))
        try:
            if {way == "put"}:
                backend.put("a", bytes(3 << 20))
            else:
                backend.put_file("a", sys.argv[2])
        except StorageFull:
            sys.exit(7)
    """
    arguments = [textwrap.dedent(script), root, tmp_path / "source"]
    assert subprocess.run([sys.executable, "-c", *arguments], cwd=tmp_path).returncode == 7
    assert files_below(root) == ["fits"]


def kill_at(root: Path, number: int, cwd: Path) -> int:
    """Puts "a" and "new/b" in a process that is killed at the given call; returns its status."""
    script = """
        import os, signal, sys
        from weightvault.store.backends.local import LocalBackend
        left = int(sys.argv[2])

        def count(real):
            def call(*arguments):
                global left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*arguments)
            return call

        for name in ("fsync", "replace", "mkdir"):
            setattr(os, name, count(getattr(os, name)))
        backend = LocalBackend(sys.argv[1])
        backend.put("a", b"new" * 100)
        backend.put("new/b", b"other")
    """
    arguments = [textwrap.dedent(script), root, str(number)]
    return subprocess.run([sys.executable, "-c", *arguments], cwd=cwd).returncode


def test_a_crash_at_any_call_leaves_the_old_or_the_new_object(root: Path, tmp_path: Path) -> None:
    states = []
    for number in range(100):
        LocalBackend(root).put("a", b"old")
        LocalBackend(root).delete("new/b")
        status = kill_at(root, number, tmp_path)
        backend = LocalBackend(root)
        listed = {info.key: backend.get(info.key) for info in backend.list()}
        assert listed["a"] in (b"old", b"new" * 100)
        assert listed.get("new/b", b"other") == b"other"
        assert listed.keys() <= {"a", "new/b"}
        states.append(listed)
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert {"a": b"old"} in states
    assert states[-1] == {"a": b"new" * 100, "new/b": b"other"}


def test_temporary_files_of_dead_writers_go_after_a_day(root: Path) -> None:
    LocalBackend(root).put("a", b"x")
    young, old = root / "tmp/young", root / "tmp/old"
    young.write_bytes(b"x")
    old.write_bytes(b"x")
    past = time.time() - STALE_SECONDS - 60
    os.utime(old, (past, past))
    LocalBackend(root)
    assert files_below(root) == ["a", "tmp/young"]


def test_things_beside_the_objects_are_not_listed(root: Path) -> None:
    backend = LocalBackend(root)
    backend.put("a/b", b"x")
    for name in ("lost+found", "a/b~", "tmp/x", "a/ü"):
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"y")
    assert [info.key for info in backend.list()] == ["a/b"]


def test_a_source_that_grows_meanwhile_is_noticed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"12345")
    real = LocalBackend._make_temp

    def grow(self: LocalBackend) -> None:
        real(self)
        with source.open("ab") as file:
            file.write(b"6")

    monkeypatch.setattr(LocalBackend, "_make_temp", grow)
    with pytest.raises(StoreError, match="changed"):
        LocalBackend(root).put_file("a", source)
    assert files_below(root) == []


def test_a_file_that_shrinks_while_it_is_read_is_corrupt(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = LocalBackend(root)
    backend.put("a", b"0123456789")
    real: Callable[[int], os.stat_result] = os.fstat

    def claim_more(handle: int) -> os.stat_result:
        status = list(real(handle))
        status[6] += 5
        return os.stat_result(status)

    monkeypatch.setattr(os, "fstat", claim_more)
    with pytest.raises(CorruptObject):
        backend.get("a")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_denied(root: Path) -> None:
    backend = LocalBackend(root)
    backend.put("a/b", b"x")
    (root / "a").chmod(0)
    try:
        for use in (backend.get, backend.size, backend.exists):
            with pytest.raises(AccessDenied):
                use("a/b")
        with pytest.raises(AccessDenied):
            list(backend.list())
    finally:
        (root / "a").chmod(0o700)


def test_a_large_file_is_stored_in_little_memory(root: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.truncate(200 << 20)
    script = f"""
        import resource, sys
        from weightvault.store.backends.local import LocalBackend
        resource.setrlimit(resource.RLIMIT_DATA, (100 << 20, {resource.RLIM_INFINITY}))
        LocalBackend(sys.argv[1], fsync=False).put_file("a", sys.argv[2])
    """
    arguments = [textwrap.dedent(script), root, source]
    subprocess.run([sys.executable, "-c", *arguments], cwd=tmp_path, check=True)
    assert LocalBackend(root).size("a") == 200 << 20


def test_a_file_system_without_hard_links(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    backend = LocalBackend(root)
    assert backend.put_new("a", b"1")
    assert not backend.put_new("a", b"2")
    assert backend.get("a") == b"1"
    assert [p.name for p in root.rglob("*") if p.is_file()] == ["a"]
