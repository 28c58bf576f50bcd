"""The operators' files: their tools take them, and what they name is there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest
import yaml
from fastapi.testclient import TestClient
from vaults import open_local

from weightvault.api import cache_config, config, server_config
from weightvault.api.cli.main import cli
from weightvault.api.server.app import create_app

DEPLOY = Path(__file__).parents[1] / "docs" / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
CLUSTER = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "weightvault.yaml").read_text()))


def need(program: str) -> str:
    """The path of a program that Debian has; skips the test where it lacks."""
    found = shutil.which(program)
    if found is None:
        end = pytest.fail if os.environ.get("CI") else pytest.skip
        end(f"{program} is missing")
        raise AssertionError
    return found


def check_command(words: list[str]) -> None:
    """Fails unless the command line is one of ours, whatever it would do."""
    context = click.Context(cli)
    command = cli.get_command(context, words[0])
    assert command is not None, words
    command.make_context(words[0], words[1:], parent=cli.make_context("weightvault", words[:1]))


def served_metrics(folder: Path) -> str:
    vault = open_local(folder)
    vault.record_totals()
    with TestClient(create_app(vault)) as web:
        web.get("/v1/repos")
        text = web.get("/metrics").text
    vault.close()
    return text


def test_alerts_fire_as_their_tests_say():
    promtool = need("promtool")
    for words in (["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]):
        done = subprocess.run(
            [promtool, *words], cwd=DEPLOY / "prometheus", capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_and_the_dashboard_go_by_metrics_that_there_are(tmp_path: Path):
    known = set(re.findall(r"^# TYPE (\w+)", served_metrics(tmp_path / "vault"), re.M))
    known |= {f"{name}_bucket" for name in known}
    dashboard = json.loads((DEPLOY / "grafana" / "weightvault.json").read_text())
    used = [t["expr"] for panel in dashboard["panels"] for t in panel["targets"]]
    alerts = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())
    used += [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    for expression in used:
        for name in re.findall(r"\b(?:weightvault|process)_\w+", expression):
            assert name in known, expression


@pytest.mark.parametrize("path", ["", "/models"])
def test_the_proxy_takes_its_configuration(path: str):
    caddy = need("caddy")
    done = subprocess.run(
        [caddy, "validate", "--config", str(DEPLOY / "Caddyfile"), "--adapter", "caddyfile"],
        env={**os.environ, "HUB_NAME": "hub.example.org", "HUB_PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_image_is_a_careful_one():
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    words = [line.split()[0] for line in lines if line and line[0].isupper()]
    assert words.index("USER") < words.index("ENTRYPOINT")
    assert "HEALTHCHECK" in words
    (user,) = [line.split()[1] for line in lines if line.startswith("USER")]
    assert user.split(":")[0].isdecimal()
    assert user.split(":")[0] != "0"
    for line in lines:
        assert not re.match(r"FROM \S+:latest|FROM [^:\s]+$|ADD ", line), line
    (command,) = [json.loads(line[4:]) for line in lines if line.startswith("CMD [")]
    check_command(command)


def test_services_are_confined_and_are_told_what_exists():
    for name in ("weightvault", "work"):
        service = COMPOSE["services"][name]
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        check_command(service["command"])
    for service in COMPOSE["services"].values():
        assert not service["image"].endswith(":latest")
        for mount in service.get("volumes", ()):
            source = mount.partition(":")[0]
            assert source in COMPOSE["volumes"] or (DEPLOY / source).exists(), mount
    variables = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
    lines = (DEPLOY / "example.env").read_text().splitlines()
    given = {line.partition("=")[0] for line in lines if not line.startswith("#")}
    assert variables == given


def containers() -> list[dict]:
    pods = []
    for document in CLUSTER:
        spec = document["spec"]
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            pods.append(spec["template"]["spec"])
    return [container | {"pod": pod} for pod in pods for container in pod["containers"]]


def test_pods_are_confined():
    assert len(containers()) == 2
    for container in containers():
        assert container["pod"]["securityContext"]["runAsNonRoot"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        mounts = {mount["name"] for mount in container["volumeMounts"]}
        assert mounts == {volume["name"] for volume in container["pod"]["volumes"]}
        check_command(container["args"])


def test_units_are_sound():
    analyze = need("systemd-analyze")
    units = sorted((DEPLOY / "systemd").iterdir())
    done = subprocess.run(
        [analyze, "verify", "--man=no", *map(str, units)], capture_output=True, text=True
    )
    said = [line for line in done.stderr.splitlines() if "is not executable" not in line]
    assert not [line for line in said if "weightvault" in line], done.stderr
    for unit in units:
        for command in re.findall(r"^ExecStart=\S+ (.*)$", unit.read_text(), re.M):
            check_command(command.split())


def test_every_variable_is_one_that_is_read():
    documented = f"{config.__doc__}{cache_config.__doc__}{server_config.__doc__}"
    for path in DEPLOY.rglob("*"):
        for name in re.findall(r"WEIGHTVAULT_\w+", path.read_text() if path.is_file() else ""):
            assert name in documented, (path, name)
