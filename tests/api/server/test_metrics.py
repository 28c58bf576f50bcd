"""Metrics and logs of a server process that does real work."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from live_server import serving
from models import make_weights, read_folder, tune, write_model
from prometheus_client.parser import text_string_to_metric_families

from weightvault.api.server import upkeep
from weightvault.api.server.app import create_app
from weightvault.api.server.logs import WithRequestId
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.retention import set_rules
from weightvault.dedup.transfer.push import push
from weightvault.store.catalogue.access.rules import RetentionRules
from weightvault.store.catalogue.reports.statistics import list_days


@dataclass
class Process:
    """A server of its own, with JSON logs."""

    url: str
    running: subprocess.Popen[str]

    def scrape(self) -> dict[tuple[str, str], float]:
        """Returns the samples of /metrics, by name and by label values joined by spaces."""
        response = httpx.get(f"{self.url}/metrics", trust_env=False)
        assert response.headers["content-type"].startswith("text/plain")
        return {
            (sample.name, " ".join(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(response.text)
            for sample in family.samples
        }

    def stop(self) -> list[dict]:
        """Ends the server; returns its log."""
        self.running.send_signal(signal.SIGINT)
        _, log = self.running.communicate(timeout=60)
        return [json.loads(line) for line in log.splitlines()]


@pytest.fixture
def process(spawn: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> Process:
    """A running server of an empty vault."""
    ask = ("serve", "--port", "0", "--log-format", "json", "--json")
    running = spawn("--vault", tmp_path / "vault", *ask)
    assert running.stdout is not None
    return Process(json.loads(running.stdout.readline())["url"], running)


def test_metrics_count_what_happened(process: Process, run, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", make_weights(1))
    assert run("--vault", process.url, "push", model, "org/model").exit_code == 0
    assert run("--vault", process.url, "push", model, "org/copy").exit_code == 0
    tuned = write_model(tmp_path / "tuned", tune(make_weights(1), 2))
    assert run("--vault", process.url, "push", tuned, "org/tuned").exit_code == 0
    size = sum(map(len, read_folder(model).values()))
    files = f"{process.url}/v1/repos/org/model/files"
    body = httpx.get(f"{files}/model.safetensors", trust_env=False).content
    httpx.get(f"{process.url}/nowhere/to/be/found", trust_env=False)
    report = httpx.get(f"{process.url}/v1/report", trust_env=False).json()

    found = process.scrape()
    file = "GET /v1/repos/{namespace}/{name}/files/{path}"
    route = next(labels for name, labels in found if labels.startswith(file[:-1]))
    assert found["weightvault_requests_total", f"{route.removesuffix(' 200')} 200"] == 1
    assert found["weightvault_sent_bytes_total", route.removesuffix(" 200")] == len(body)
    packs = found["weightvault_received_bytes_total", "PUT /v1/packs/{name}"]
    assert 0 < packs < 2 * size
    asked, known = (found[f"weightvault_chunks_{name}_total", ""] for name in ("asked", "known"))
    assert 0 < known < asked
    assert found["weightvault_frames_added_total", ""] == report["chunks"]
    assert found["weightvault_codec_frames_total", "decode"] >= report["chunks"]
    assert found["weightvault_codec_seconds_total", "decode"] > 0
    assert found["weightvault_codec_raw_bytes_total", "decode"] >= size
    assert found["weightvault_checking_waiting", ""] == 0
    assert found["weightvault_queue_length", "garbage"] == 0
    assert found["weightvault_requests_under_way", ""] == 1
    assert found["weightvault_stored_bytes", ""] == report["stored"]
    assert found["weightvault_logical_bytes", ""] == report["logical"]
    assert found["weightvault_request_seconds_count", "PUT /v1/packs/{name}"] == 2
    # A path that is none makes no label of its own.
    assert not any("nowhere" in labels for _, labels in found)
    assert process.scrape()["weightvault_requests_total", "GET /metrics 200"] == 1


def test_logs_are_json_with_request_ids(process: Process) -> None:
    with httpx.Client(base_url=process.url, trust_env=False) as web:
        own = web.get("/v1/repos", headers={"X-Request-Id": "build-42/7"})
        drawn = web.get("/v1/repos/org/none?secret=hidden")
        hostile = web.get("/health", headers={"X-Request-Id": "x" * 500})
        odd = web.get("/v1/repos/org/%0Anew%1B%5B31mline")
    assert own.headers["x-request-id"] == "build-42/7"
    ids = [response.headers["x-request-id"] for response in (own, drawn, hostile, odd)]
    assert len(set(ids)) == 4
    assert len(ids[2]) == 32
    log = process.stop()
    lines = {line["request_id"]: line for line in log if line["logger"] == "weightvault.access"}
    assert set(ids) <= lines.keys()
    line = lines["build-42/7"]
    assert (line["method"], line["path"], line["status"]) == ("GET", "/v1/repos", 200)
    assert line["level"] == "INFO"
    assert line["sent_bytes"] == len(own.content)
    assert 0 < line["seconds"] < 60
    assert lines[ids[1]]["status"] == 404
    assert "\n" not in lines[ids[3]]["message"]
    assert "\x1b" not in lines[ids[3]]["message"]
    assert "hidden" not in json.dumps(log)


def test_what_is_logged_on_the_way_has_the_id_too(
    web: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.handler.addFilter(WithRequestId())
    with caplog.at_level(logging.INFO, logger="weightvault"):
        web.get("/v1/repos", headers={"X-Request-Id": "one"})
        web.get("/v1/repos", headers={"X-Request-Id": "two"})
        # An answer is logged when it has been sent: its reader may be here first.
        until = time.monotonic() + 60
        while len(accesses(caplog)) < 2 and time.monotonic() < until:
            time.sleep(0.01)
    assert accesses(caplog) == ["one", "two"]


def accesses(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The ids of the requests that were logged."""
    return [r.request_id for r in caplog.records if r.name == "weightvault.access"]  # type: ignore[attr-defined]


def test_a_server_keeps_days_on_record(
    local: LocalVault, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(local, model, "org/model")
    monkeypatch.setattr(upkeep, "FIRST_SECONDS", 0.0)
    with serving(create_app(local)):
        until = time.monotonic() + 60
        while not list_days(local.catalogue) and time.monotonic() < until:
            time.sleep(0.05)
    (day,) = list_days(local.catalogue)
    assert (day.repos, day.logical) == (1, local.report().logical)


def test_a_server_forgets_by_the_rules_of_namespaces(
    local: LocalVault, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(local, model, "org/model")
    (model / "config.json").write_text("{}")
    newest = push(local, model, "org/model").commit
    set_rules(local, "org", RetentionRules(last=1))
    monkeypatch.setattr(upkeep, "FIRST_SECONDS", 0.0)
    with serving(create_app(local)):
        until = time.monotonic() + 60
        while len(local.list_commits("org/model")) > 1 and time.monotonic() < until:
            time.sleep(0.05)
    assert [commit.id for commit in local.list_commits("org/model")] == [newest.id]
