"""From addresses and environment to vaults."""

from pathlib import Path

import pytest

from weightvault.api import config
from weightvault.api.client.http_vault import HttpVault
from weightvault.dedup.errors import AccessRefused, InvalidInput, Missing, VaultError
from weightvault.dedup.local_vault import LocalVault


def test_which_vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert config.vault_url() == str(tmp_path / "home" / "weightvault" / "vault")
    monkeypatch.setenv("WEIGHTVAULT_URL", "http://there")
    assert config.vault_url() == "http://there"
    assert config.vault_url("s3://here") == "s3://here"


@pytest.mark.parametrize(("value", "expected"), [("", False), ("0", False), ("1", True)])
def test_debug(value: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIGHTVAULT_DEBUG", value)
    assert config.debug() is expected


def test_a_server() -> None:
    vault = config.open_vault("http://127.0.0.1:9")
    assert isinstance(vault, HttpVault)
    vault.close()


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_folder(form: str, tmp_path: Path) -> None:
    folder = tmp_path / "a%20b" if form == "{}" else tmp_path / "a b"
    url = form.format(str(folder).replace(" ", "%20"))
    with pytest.raises(Missing, match="no vault"):
        config.open_vault(url, create=False)
    assert not folder.exists()
    config.open_vault(url).close()
    assert sorted(p.name for p in folder.iterdir()) == ["catalogue.sqlite", "objects", "tmp"]
    vault = config.open_vault(url, create=False)
    assert isinstance(vault, LocalVault)
    assert vault.list_repos() == []
    assert vault.scratch.is_relative_to(folder)
    vault.close()


def test_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    vault = config.open_vault("vault")
    monkeypatch.chdir("/")
    assert vault.list_repos() == []
    vault.close()
    assert (tmp_path / "vault" / "objects").is_dir()


def test_a_folder_of_something_else_is_left_alone(model: Path) -> None:
    before = sorted(model.iterdir())
    with pytest.raises(InvalidInput, match="is not a vault"):
        config.open_vault(str(model))
    with pytest.raises(InvalidInput, match="is a file"):
        config.open_vault(str(model / "config.json"))
    assert sorted(model.iterdir()) == before


@pytest.mark.parametrize(
    "url",
    ["ftp://host/x", "file://host/x", "s3://", "s3://key@bucket/x", "s3://bucket?colour=red"],
)
def test_addresses_of_no_vault(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        config.open_vault(url)
    assert caught.value.hint


def test_a_folder_where_none_can_be() -> None:
    with pytest.raises(VaultError, match="cannot open the vault"):
        config.open_vault("/proc/self/vault")


def test_a_catalogue_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_option, by_environment = (tmp_path / f"{n}.sqlite" for n in ("option", "environment"))
    monkeypatch.setenv("WEIGHTVAULT_CATALOGUE", f"sqlite:///{by_environment}")
    config.open_vault(str(tmp_path / "one")).close()
    config.open_vault(str(tmp_path / "two"), f"sqlite:///{by_option}").close()
    assert by_environment.exists()
    assert by_option.exists()
    with pytest.raises(InvalidInput):
        config.open_vault(str(tmp_path / "three"), "mysql://host/db")


def test_s3_keeps_its_catalogue_with_the_user(s3_url: str, tmp_path: Path) -> None:
    vault = config.open_vault(s3_url)
    assert isinstance(vault, LocalVault)
    assert vault.list_repos() == []
    home = tmp_path / "home" / "weightvault" / "remote"
    assert [p.name for p in home.glob("*/*.sqlite")] == ["catalogue.sqlite"]
    assert vault.scratch.is_relative_to(home)
    vault.close()


def test_permissions_are_said_to_be_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(AccessRefused, match="Permission denied"):
        config.open_vault("/new/vault")
