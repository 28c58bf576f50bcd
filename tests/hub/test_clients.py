"""Everything that people do with a hub, by every version of its client that we answer for."""

from pathlib import Path

import pytest
from hub_clients import NO_XET, VERSIONS, Hub, client_environment, find_python, run

from weightvault.dedup.transfer.refs import History, Message
from weightvault.dedup.transfer.uploads import IncomingFiles

# 0.36 takes what the server offers; later ones take Xet unless they are told not to.
WAYS = [
    pytest.param("2.4", {}, id="2.4"),
    pytest.param("2.4", NO_XET, id="2.4-no-xet"),
    pytest.param("1.33", {}, id="1.33"),
    pytest.param("1.33", NO_XET, id="1.33-no-xet", marks=pytest.mark.slow),
    pytest.param("0.36", {}, id="0.36"),
]


@pytest.mark.parametrize(("version", "extra"), WAYS)
def test_a_model(hub: Hub, tmp_path: Path, version: str, extra: dict[str, str]):
    drive(hub, tmp_path, version, extra, "model")


def test_a_dataset(hub: Hub, tmp_path: Path):
    drive(hub, tmp_path, "2.4", NO_XET, "dataset")


def drive(hub: Hub, folder: Path, version: str, extra: dict[str, str], kind: str) -> None:
    python = find_python(VERSIONS[version])
    for repo in ("other/secret", "datasets/other/secret"):
        history = History(hub.vault, IncomingFiles(hub.vault))
        history.create_repo(repo, Message("initial commit"))
    token = hub.token("write", "me")
    env = client_environment(folder, extra)
    watcher = hub.token(name="watcher")
    done = run(python, "driver.py", hub.url, token, folder / "driver", kind, watcher, env=env)
    assert "all done" in done.stdout
    assert hub.vault.check().problems == ()
