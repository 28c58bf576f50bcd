"""Processes of the product that begin by fork: modules are loaded once, which takes two seconds of
processor time, and not for each of a hundred servers.

A process that has loaded them waits for requests on a socket. For each it forks twice, so that what
was asked for is nobody's child, and becomes that of this process, which takes orphans in: all of
subprocess.Popen works as with any other.
"""

from __future__ import annotations

import array
import ctypes
import importlib
import inspect
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from functools import cache
from typing import Any

# <linux/prctl.h>
_PR_SET_CHILD_SUBREAPER = 36
_MODULES = ("slow_server", "weightvault.api.cli.main", "weightvault.api.server.serving")
_MODULES = (*_MODULES, "weightvault.api.server.app", "weightvault.api.client.http_vault")
_TURN = threading.Lock()


class ForkedProcess(subprocess.Popen[str]):
    """As Popen, of a function: the first of `args` is "module:function"."""

    def _execute_child(self, *args: Any, **options: Any) -> None:
        original = subprocess.Popen._execute_child  # type: ignore[attr-defined]
        given = inspect.signature(original).bind(self, *args, **options).arguments
        pipes = [given[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        asked = {
            "args": list(map(str, given["args"])),
            "cwd": str(given["cwd"] or os.getcwd()),
            "env": dict(os.environ if given["env"] is None else given["env"]),
            "umask": given["umask"],
            "session": given["start_new_session"],
        }
        body = json.dumps(asked).encode("ascii")
        files = [i if fd == -1 else fd for i, fd in enumerate(pipes)]
        with _TURN:
            server = _server()
            socket.send_fds(server, [len(body).to_bytes(4, "big")], files)
            server.sendall(body)
            self.pid = int.from_bytes(_receive(server, 4), "big")
        self._child_created = True
        names = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(given[name] for name in names))  # type: ignore[attr-defined]


@cache
def _server() -> socket.socket:
    """Starts the process that forks, once; it ends when this one does."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "orphans are not taken in")
    mine, its = socket.socketpair()
    with its:
        command = [sys.executable, __file__, str(its.fileno())]
        env = os.environ | {"PYTHONPATH": os.path.dirname(__file__)}
        # Not waited for, as it outlives all who could.
        subprocess.Popen(command, pass_fds=[its.fileno()], env=env)
    return mine


def _receive(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def _serve(connection: socket.socket) -> dict[str, Any]:
    """Forks for each request; returns it in the process that was asked for."""
    while True:
        head, files, _, _ = socket.recv_fds(connection, 4, 3)
        if not head:
            os._exit(0)
        head += _receive(connection, 4 - len(head))
        asked = json.loads(_receive(connection, int.from_bytes(head, "big")))
        between = os.fork()
        if between == 0:
            pid = os.fork()
            if pid == 0:
                connection.close()
                _take(files)
                return asked
            # Told by the one that is about to end, and heard when it has.
            os.write(_told[1], pid.to_bytes(4, "big"))
            os._exit(0)
        os.waitpid(between, 0)
        for file in files:
            os.close(file)
        connection.sendall(os.read(_told[0], 4))


def _take(files: array.array[int] | list[int]) -> None:
    for number, file in enumerate(files):
        os.dup2(file, number)
    for file in (*files, *_told):
        os.close(file)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        old = getattr(sys, name)
        lines = name == "stderr" or os.isatty(old.fileno())
        stream = os.fdopen(
            old.fileno(), mode, 1 if lines else -1, "utf-8", old.errors, closefd=False
        )
        setattr(sys, name, stream)


def _run(asked: dict[str, Any]) -> None:
    if asked["session"]:
        os.setsid()
    if asked["umask"] >= 0:
        os.umask(asked["umask"])
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    module, _, function = asked["args"][0].partition(":")
    sys.argv = asked["args"]
    getattr(importlib.import_module(module), function)()


if __name__ == "__main__":
    _told = os.pipe()
    for name in _MODULES:
        importlib.import_module(name)
    _run(_serve(socket.socket(fileno=int(sys.argv[1]))))
