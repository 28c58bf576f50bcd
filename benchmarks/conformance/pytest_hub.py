"""A plugin of pytest for huggingface_hub's tests: leads them to one hub, and notes how each ended.

Copied beside these tests as their conftest.py, whose own is in no release. So it imports nothing of
weightvault. It reads HUB_URL and HUB_OUTCOMES, the file that gets a line of JSON per test.
"""

# Run by another interpreter, which has what is missing here.
# pyright: reportMissingImports=false
from __future__ import annotations

import importlib
import json
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError

_URL = os.environ["HUB_URL"]
_OUTCOMES = Path(os.environ["HUB_OUTCOMES"])
_LOCAL = ("127.0.0.1", "localhost", "0.0.0.0", "::1", "", None)
_HOMES = {
    "HF_HOME": "",
    "HF_HUB_CACHE": "hub",
    "HUGGINGFACE_HUB_CACHE": "hub",
    "HF_XET_CACHE": "xet",
    "HF_ASSETS_CACHE": "assets",
    "HF_TOKEN_PATH": "token",
    "HF_STORED_TOKENS_PATH": "stored_tokens",
}
# Other hosts that a test asked for; none can be reached.
_asked: set[str] = set()
_look_up = socket.getaddrinfo


def _look_up_local(host: Any, *arguments: Any, **options: Any) -> Any:
    name = host.decode() if isinstance(host, bytes) else host
    if name not in _LOCAL:
        _asked.add(str(name))
        raise socket.gaierror(f"{name} is not asked for here")
    return _look_up(host, *arguments, **options)


socket.getaddrinfo = _look_up_local


def _constants() -> Any:
    return importlib.import_module(f"{__package__}.testing_constants")


def _repo_name(prefix: str) -> str:
    return importlib.import_module(f"{__package__}.testing_utils").repo_name(prefix=prefix)


class RepoFactory:
    """Makes repos that go when the test ends."""

    def __init__(self, api: HfApi) -> None:
        self._api = api
        self._made: list[tuple[str, str]] = []

    def __call__(self, repo_type: str = "model", **options: Any) -> Any:
        """Makes one; `options` as HfApi.create_repo has them."""
        named = {"repo_id": _repo_name(repo_type), "repo_type": repo_type, **options}
        if repo_type == "space":
            named.setdefault("space_sdk", "gradio")
        url = self._api.create_repo(**named)
        self._made.append((url.repo_id, repo_type))
        return url

    def delete_all(self) -> None:
        """Deletes those that are still there."""
        for repo_id, repo_type in self._made:
            with suppress(HfHubHTTPError):
                self._api.delete_repo(repo_id=repo_id, repo_type=repo_type, missing_ok=True)


@pytest.fixture(scope="session")
def api() -> HfApi:
    """A client of the hub."""
    return HfApi(endpoint=_URL, token=_constants().TOKEN)


@pytest.fixture(scope="session")
def api_prod() -> HfApi:
    """A client of the public hub."""
    return HfApi(endpoint=_constants().ENDPOINT_PRODUCTION)


@pytest.fixture
def repo_factory(api: HfApi) -> Iterator[RepoFactory]:
    """Makes repos for a test."""
    factory = RepoFactory(api)
    yield factory
    factory.delete_all()


@pytest.fixture
def new_repo_id(api: HfApi) -> Iterator[str]:
    """The name of a repo that is not there yet, and goes when the test ends."""
    repo_id = f"{_constants().USER}/{_repo_name('new')}"
    yield repo_id
    with suppress(HfHubHTTPError):
        api.delete_repo(repo_id, missing_ok=True)


@pytest.fixture
def fx_cache_dir(request: pytest.FixtureRequest) -> Iterator[None]:
    """Gives a test's class a cache of its own."""
    with tempfile.TemporaryDirectory() as folder:
        assert request.cls is not None
        request.cls.cache_dir = Path(folder).resolve()
        yield


@pytest.fixture(autouse=True)
def own_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Gives each test a home, and a terminal that is always the same."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for name, below in _HOMES.items():
            if hasattr(constants, name):
                monkeypatch.setattr(constants, name, os.path.join(folder, below).rstrip("/"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_EXPERIMENTAL_WARNING", True)
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "200")
        yield


@pytest.fixture(autouse=True)
def no_oauth_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has clients of 2.x forget what the test before refreshed."""
    known: Any = importlib.import_module("huggingface_hub.utils._auth")
    for name, nothing in (("_OAUTH_REFRESH_CACHE", None), ("_OAUTH_REFRESH_WARNED", False)):
        if hasattr(known, name):
            monkeypatch.setattr(known, name, nothing)


@pytest.fixture(autouse=True)
def quiet_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the `hf` command of 2.x write as for people, whoever runs it."""
    detect = getattr(huggingface_hub.utils, "_detect_agent", None)
    if detect is not None and hasattr(detect, "_EMPTY_REGISTRY"):
        monkeypatch.setattr(detect, "_registry", detect._EMPTY_REGISTRY)
    try:
        out: Any = importlib.import_module("huggingface_hub.cli._output").out
    except ImportError:
        return
    out.set_mode()
    out.set_no_truncate(False)


@pytest.fixture(autouse=True)
def with_marks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Does what marks ask for: Xet, the public hub, git-lfs, warnings."""
    marks = {mark.name for mark in request.node.iter_markers()}
    if "xet" in marks:
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    if "no_xet" in marks:
        pytest.skip("is for clients without hf_xet")
    if "git_lfs" in marks:
        pytest.skip("is for git-lfs")
    if "production" in marks:
        known = _constants()
        monkeypatch.setattr(constants, "ENDPOINT", known.ENDPOINT_PRODUCTION)
        template = known.ENDPOINT_PRODUCTION_URL_SCHEME
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    old = [name for mark in request.node.iter_markers("deprecated") for name in mark.args]
    if not old:
        yield
        return
    with pytest.warns(FutureWarning, match=f".*'{old[0]}'.*"):
        yield


@pytest.fixture(scope="module")
def vcr_config() -> dict[str, Any]:
    """Lets recorded answers be found by their tests' names."""
    add_ending: Callable[[str], str] = lambda path: path + ".yaml"  # noqa: E731
    return {"ignore_localhost": True, "path_transformer": add_ending}


def pytest_runtest_setup() -> None:
    """Forgets what the test before asked for."""
    _asked.clear()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Notes the outcome of a test's part."""
    if report.when != "call" and report.passed:
        return
    crash = getattr(report.longrepr, "reprcrash", None)
    said = crash.message if crash is not None else str(report.longrepr or "")
    line = {
        "test": report.nodeid,
        "outcome": report.outcome,
        "said": said[:600],
        "hosts": sorted(_asked),
        "seconds": round(report.duration, 2),
    }
    with _OUTCOMES.open("a") as file:
        file.write(json.dumps(line) + "\n")
