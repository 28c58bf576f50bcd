"""Several processes that answer on one port, and one that works in the background."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from hub_requests import HubRequests
from models import make_weights, read_folder, write_model
from prometheus_client.parser import text_string_to_metric_families

# The promise is ten; a machine that is busy with other tests gets more.
END_SECONDS = 20.0
WAIT_SECONDS = 120.0


class Site:
    """A server of several processes: `servers` answer, `worker` works in the background."""

    def __init__(self, running: subprocess.Popen[str]) -> None:
        self.running = running
        assert running.stdout is not None
        self.url = json.loads(running.stdout.readline())["url"]
        *self.servers, self.worker = self.children()

    def children(self) -> list[psutil.Process]:
        """Those that serve or work, the oldest first."""
        found = psutil.Process(self.running.pid).children()
        found = [child for child in found if child.status() != psutil.STATUS_ZOMBIE]
        mine = [child for child in found if "spawn_main" in " ".join(child.cmdline())]
        return sorted(mine, key=lambda child: child.create_time())

    @contextmanager
    def answering(self, number: int, **options: object) -> Iterator[httpx.Client]:
        """Within, only that server answers."""
        for place, server in enumerate(self.servers):
            (server.resume if place == number else server.suspend)()
        try:
            with httpx.Client(base_url=self.url, timeout=60, trust_env=False, **options) as web:  # type: ignore[arg-type]
                yield web
        finally:
            for server in self.servers:
                server.resume()

    def scrape(self, web: httpx.Client) -> dict[tuple[str, str], float]:
        """The samples of /metrics, by name and by label values joined by spaces."""
        return {
            (sample.name, " ".join(v for _, v in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(web.get("/metrics").text)
            for sample in family.samples
        }


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.1)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """The options that name a vault, with each kind of catalogue."""
    options = ["--vault", str(tmp_path / "vault")]
    if request.param == "postgresql":
        options += ["--catalogue", request.getfixturevalue("postgres_url")]
    return options


@pytest.fixture
def start(spawn: Callable[..., subprocess.Popen[str]], tmp_path: Path):
    """Starts a server with two processes that answer."""

    def begin(place: list[str], *options: str) -> Site:
        with (tmp_path / "log").open("a") as log:
            words = ["serve", "--port", "0", "--workers", "2", "--json", *options]
            # With an argument that has it started as its own program, not forked from the tests.
            running = spawn(*place, *words, stderr=log, preexec_fn=lambda: None)
        return Site(running)

    return begin


def upload_raw(web: httpx.Client) -> None:
    """Sends weights as a hub's client does, which are to be encoded later."""
    hub = HubRequests(web)
    assert hub.create("me/raw").status_code == 200
    data = np.random.default_rng(1).normal(0, 0.02, 100_000).astype("f4").tobytes()
    header = json.dumps(
        {"w": {"dtype": "F32", "shape": [100_000], "data_offsets": [0, len(data)]}}
    ).encode()
    whole = len(header).to_bytes(8, "little") + header + data
    assert hub.upload("me/raw", whole) is not None
    assert hub.commit("me/raw", uploaded={"w.safetensors": whole}).status_code == 200


def test_what_one_process_takes_in_all_have(place, start, run, tmp_path: Path) -> None:
    token = run(*place, "token", "create", "--name", "me", "--role", "admin").stdout.strip()
    site = start(place)
    assert len(site.servers) == 2
    shown = {"Authorization": f"Bearer {token}"}
    model = write_model(tmp_path / "model", make_weights(1))
    with site.answering(0, headers=shown) as web:
        upload_raw(web)
        env = {"WEIGHTVAULT_TOKEN": token}
        assert run("--vault", site.url, "push", model, "me/model", env=env).exit_code == 0
        form = {"token": token, "to": "/"}
        signed = httpx.post(f"{site.url}/-/sign-in", data=form, trust_env=False)
        cookies = {"cookie": signed.headers["set-cookie"].partition(";")[0]}
        made = site.scrape(web)
        asked = "GET /v1/repos"
        assert web.get("/v1/repos").status_code == 200
        time.sleep(2.0)
    with site.answering(1, headers=shown) as web:
        assert (
            run("--vault", site.url, "pull", "me/model", tmp_path / "got", env=env).exit_code == 0
        )
        assert read_folder(tmp_path / "got") == read_folder(model)
        assert web.get("/v1/repos").status_code == 200
        found = site.scrape(web)
        before = made.get(("weightvault_requests_total", f"{asked} 200"), 0)
        assert found["weightvault_requests_total", f"{asked} 200"] == before + 2
        assert (
            found["weightvault_frames_added_total", ""]
            >= made["weightvault_frames_added_total", ""]
            > 0
        )
        # What the third process encoded is in the sums, too.
        until(lambda: site.scrape(web)["weightvault_queue_length", "uncoded"] == 0)
        until(lambda: site.scrape(web)["weightvault_codec_frames_total", "encode"] > 0)
    with site.answering(1, headers=cookies) as web:
        assert web.get("/me/model").status_code == 200
        out = web.post("/-/sign-out", headers={"Origin": site.url})
        assert out.status_code == 303
    with site.answering(0, headers=cookies) as web:
        assert web.get("/me/model").status_code == 404
    family = site.children()
    site.running.send_signal(signal.SIGTERM)
    assert site.running.wait(END_SECONDS) == 0
    assert not [child for child in family if child.is_running()]


def test_whoever_dies_is_replaced_and_nobody_is_left_behind(start, tmp_path: Path) -> None:
    site = start(["--vault", str(tmp_path / "vault")])
    lost = [site.servers[0], site.worker]
    for child in lost:
        child.kill()
    until(lambda: len(site.children()) == 3 and not {*lost} & {*site.children()})
    with httpx.Client(base_url=site.url, timeout=60, trust_env=False) as web:
        assert web.get("/health").json()["status"] == "ok"
    family = site.children()
    site.running.kill()
    site.running.wait()
    psutil.wait_procs(family, END_SECONDS)
    assert not [child for child in family if child.is_running()]


def test_servers_may_leave_the_background_to_others(place, spawn, tmp_path: Path) -> None:
    serve = spawn(*place, "serve", "--port", "0", "--json", "--no-background")
    url = json.loads(serve.stdout.readline())["url"]
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as web:
        upload_raw(web)

        def waiting() -> bool:
            return 'queue_length{queue="uncoded"} 0.0' not in web.get("/metrics").text

        assert waiting()
        workers = [spawn(*place, "work", "--json") for _ in range(2)]
        assert [json.loads(each.stdout.readline())["vault"] for each in workers] == [place[1]] * 2
        until(lambda: not waiting())
    for each in (*workers, serve):
        each.send_signal(signal.SIGTERM)
    assert [each.wait(END_SECONDS) for each in (*workers, serve)] == [0, 0, 0]
