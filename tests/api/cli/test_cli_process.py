"""The command as a process: what it loads, its streams, signals, terminals and full disks."""

from __future__ import annotations

import json
import os
import pty
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from threading import Event

import httpx
import pytest
from models import read_folder

from weightvault.dedup.local_vault import LocalVault

HEAVY = ["numba", "numpy", "fastapi", "pydantic", "sqlalchemy", "boto3", "httpx", "rich", "uvicorn"]


def finish(process: subprocess.Popen[str], seconds: float = 60) -> tuple[int, str, str]:
    """Waits for a process; returns its status, stdout and stderr."""
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err or ""


def run_and_list(words: list[str], modules: list[str]) -> tuple[str, str]:
    """Runs a command; returns what it printed, and which of `modules` it loaded."""
    script = (
        "import sys\n"
        "from weightvault.api.cli.main import main\n"
        f"sys.argv = {['weightvault', *words]!r}\n"
        "try:\n    main()\nexcept SystemExit as done:\n    assert not done.code\n"
        f"print([m for m in {modules} if m in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return done.stdout, done.stderr.strip()


def test_help_loads_nothing_heavy() -> None:
    out, loaded = run_and_list(["--help"], HEAVY)
    assert "Usage: weightvault" in out
    assert loaded == "[]"


def test_looking_at_a_folder_loads_its_catalogue_alone(run, model: Path, tmp_path: Path) -> None:
    vault = str(tmp_path / "vault")
    run("--vault", vault, "push", model, "org/model")
    out, loaded = run_and_list(["--vault", vault, "ls"], HEAVY)
    assert "org/model" in out
    assert loaded == "['sqlalchemy']"


# What the extras `server`, `s3` and `postgresql` bring.
SERVERS = ["fastapi", "starlette", "uvicorn", "jinja2", "markdown_it", "nh3", "prometheus_client"]
SERVERS += ["anyio.abc", "pythonjsonlogger", "boto3", "botocore", "psycopg"]


def test_a_client_of_a_server_loads_nothing_that_servers_need(live: str, model: Path) -> None:
    out, loaded = run_and_list(["--vault", live, "push", str(model), "org/model"], SERVERS)
    assert "org/model" in out
    assert loaded.endswith("[]")
    _, loaded = run_and_list(["--vault", live, "ls"], [*SERVERS, "sqlalchemy", "alembic", "numba"])
    assert loaded == "[]"


def test_results_and_the_rest_keep_apart(spawn, model: Path, tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    status, out, err = finish(spawn("--vault", vault, "push", model, "org/model", "--json"))
    assert status == 0
    assert json.loads(out)["commit"]["repo"] == "org/model"
    assert "storing: " in err
    assert "\x1b" not in out + err
    status, out, err = finish(spawn("--vault", vault, "info", "org/other"))
    assert (status, out) == (3, "")
    assert err.startswith("error: ")


def test_a_closed_pipe_is_no_failure_worth_words(spawn, run, model: Path, tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    run("--vault", vault, "push", model, "org/model")
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = spawn("--vault", vault, "report", stdout=write_end)
    os.close(write_end)
    process.wait(timeout=60)
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_stops_when_told_to(spawn, tmp_path: Path, number: signal.Signals) -> None:
    process = spawn("--vault", tmp_path / "vault", "serve", "--port", "0")
    line = process.stdout.readline()
    assert line.startswith("serving http://127.0.0.1:")
    url = line.split()[-1]
    assert httpx.get(f"{url}/health", trust_env=False).json()["status"] == "ok"
    process.send_signal(number)
    status, out, err = finish(process)
    assert status == 0, err
    assert out == ""
    assert "Traceback" not in err
    assert "GET /health" in err


def test_serve_on_a_taken_port(spawn, serve, tmp_path: Path) -> None:
    url, _ = serve(tmp_path / "vault")
    port = url.rpartition(":")[2]
    status, out, err = finish(spawn("--vault", tmp_path / "two", "serve", "--port", port))
    assert (status, out) == (4, "")
    assert f"port {port}" in err
    assert "hint: choose another with --port" in err
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize("host", ["nowhere.invalid", "192.0.2.1"])
def test_serve_on_a_foreign_address(spawn, tmp_path: Path, host: str) -> None:
    status, _, err = finish(
        spawn("--vault", tmp_path / "v", "serve", "--host", host, "--port", "0")
    )
    assert status == 4
    assert "no address of this machine" in err


def test_two_servers_share_a_vault(serve, run, model: Path, tmp_path: Path) -> None:
    one, _ = serve(tmp_path / "vault")
    two, _ = serve(tmp_path / "vault")
    assert run("--vault", one, "push", model, "org/model").exit_code == 0
    assert run("--vault", two, "pull", "org/model", tmp_path / "out").exit_code == 0
    assert read_folder(tmp_path / "out") == read_folder(model)


def test_serve_on_s3(serve, run, s3_url: str, model: Path, tmp_path: Path) -> None:
    url, _ = serve(s3_url)
    assert run("--vault", url, "push", model, "org/model").exit_code == 0
    assert run("--vault", s3_url, "pull", "org/model", tmp_path / "out").exit_code == 0
    assert read_folder(tmp_path / "out") == read_folder(model)


def test_a_full_disk_at_the_server(serve, spawn, tmp_path: Path) -> None:
    def limit() -> None:
        # Files beyond this size cannot be written, as on a disk that is full.
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    url, server = serve(tmp_path / "vault", preexec_fn=limit)
    (tmp_path / "noise.bin").write_bytes(os.urandom(3 << 20))
    status, _, err = finish(spawn("--vault", url, "push", tmp_path / "noise.bin", "org/noise"))
    assert status == 6, err
    assert "hint: free" in err
    assert list((tmp_path / "vault" / "tmp").iterdir()) == []
    assert httpx.get(f"{url}/v1/repos", trust_env=False).json() == []
    assert server.poll() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_push(spawn, model: Path, number: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        process = spawn("--vault", url, "push", model, "org/model")
        connection, _ = listener.accept()
        with connection:
            # It waits for an answer now, which does not come.
            connection.recv(1)
            process.send_signal(number)
            status, out, err = finish(process)
    assert (status, out) == (130, "")
    assert "nothing was committed" in err
    assert "hint: push again to resume" in err
    assert "Traceback" not in err


def test_a_signal_that_wakes_nobody_is_noticed() -> None:
    """Raised in another thread it does not wake the main one, as one that comes just before that
    falls asleep."""
    script = (
        "import signal, socket, threading\n"
        "from weightvault.api.cli.signals import heed_signals\n"
        "heed_signals()\n"
        "silent, _other = socket.socketpair()\n"
        "threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()\n"
        "try:\n    silent.recv(1)\nexcept KeyboardInterrupt:\n    print('noticed')\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "noticed\n"


def test_an_interrupted_push_does_not_wait_for_its_pack(
    spawn, run, live: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, repaired, add_pack = Event(), Event(), LocalVault.add_pack

    def take_long(vault: LocalVault, path: Path, name: str, **bounds: bool) -> int:
        begun.set()
        repaired.wait(120)
        return add_pack(vault, path, name, **bounds)

    monkeypatch.setattr(LocalVault, "add_pack", take_long)
    process = spawn("--vault", live, "push", model, "org/model")
    assert begun.wait(60)
    process.send_signal(signal.SIGINT)
    status, out, err = finish(process)
    repaired.set()
    assert (status, out) == (130, "")
    assert "hint: push again to resume" in err
    assert "Traceback" not in err
    assert run("--vault", live, "push", model, "org/model").exit_code == 0
    assert run("--vault", live, "pull", "org/model", tmp_path / "out").exit_code == 0
    assert read_folder(tmp_path / "out") == read_folder(model)


def test_rm_asks_on_a_terminal(spawn, run, model: Path, tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    run("--vault", vault, "push", model, "org/model")
    terminal, its_end = pty.openpty()
    for answer, status, said in (("n", 130, ""), ("y", 0, "deleted org/model, 1 commit")):
        process = spawn("--vault", vault, "rm", "org/model", stdin=its_end)
        os.write(terminal, f"{answer}\n".encode())
        code, out, err = finish(process)
        assert (code, out.partition("\n")[0]) == (status, said)
        assert "delete org/model, 1 commit" in err
        assert ("was not deleted" in err) == (answer == "n")
    os.close(terminal)
    os.close(its_end)
    assert run("--vault", vault, "info", "org/model").exit_code == 3


def test_a_bar_on_a_terminal(spawn, model: Path, tmp_path: Path) -> None:
    terminal, its_end = pty.openpty()
    process = spawn("--vault", tmp_path / "vault", "push", model, "org/model", stderr=its_end)
    os.close(its_end)
    shown = read_terminal(terminal)
    assert process.wait(timeout=60) == 0
    assert "storing" in shown
    assert "KiB/s" in shown or "MiB/s" in shown
    assert "\x1b[" in shown


def read_terminal(terminal: int) -> str:
    """Everything written to a terminal until its last writer is gone."""
    shown = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            shown += os.read(terminal, 65536)
        except OSError:
            break
    os.close(terminal)
    return shown.decode()
