"""Opens what is named by an address: vaults, repos, revisions, files of tensors."""

from __future__ import annotations

from typing import Any

from ...dedup.errors import InvalidInput
from .names import Address, parse_address
from .tensor_file import TensorFile
from .vault import Vault


def open_vault(
    url: str | None = None, *, token: str | None = None, catalogue: str | None = None
) -> Vault:
    """Opens a vault: a folder, `s3://bucket/prefix`, or `http(s)://host:port` of a server. Without
    `url` that of WEIGHTVAULT_URL, else a folder of this user.

    A folder that is not there yet is made by the first push or save. `token` is shown to a server;
    without it that of WEIGHTVAULT_TOKEN is. `catalogue` is a database URL for vaults without a
    server. Raises InvalidInput for an address of no known form, and for a folder that holds
    something else.
    """
    return Vault(url, token=token, catalogue=catalogue)


def open_address(
    uri: str, *, vault: Vault | str | None = None, token: str | None = None
) -> tuple[Vault, Address, bool]:
    """Returns the vault that a `wv://` address is in, the address taken apart, and whether the
    vault was opened for it and is the caller's to close.

    `vault`, open or by its address, is where it is unless the address names a server.
    """
    address = parse_address(uri)
    if isinstance(vault, Vault):
        if address.vault is not None:
            raise InvalidInput(f"{uri!r} names a vault, and another one is given", "name one")
        return vault, address, False
    return Vault(address.vault or vault, token=token), address, True


def safe_open(
    uri: str,
    framework: str = "np",
    device: str = "cpu",
    *,
    vault: Vault | str | None = None,
    token: str | None = None,
) -> TensorFile:
    """Opens the tensors that a `wv://` address names: those of a file, or of a revision. See
    Vault.safe_open; closing what it returns closes the vault, too, if it was opened for it."""
    opened, address, ours = open_address(uri, vault=vault, token=token)
    try:
        file = opened.safe_open(
            address.repo,
            revision=address.revision,
            file=address.path or None,
            framework=framework,
            device=device,
        )
    except BaseException:
        if ours:
            opened.close()
        raise
    if ours:
        file.on_close(opened.close)
    return file


def load_file(
    uri: str,
    framework: str = "np",
    device: str = "cpu",
    *,
    vault: Vault | str | None = None,
    token: str | None = None,
) -> dict[str, Any]:
    """Returns all tensors by name that a `wv://` address names: those of a file
    (`wv://org/tune/model.safetensors`), or of a revision with all its shards
    (`wv://org/tune@v1`)."""
    with safe_open(uri, framework, device, vault=vault, token=token) as file:
        return dict(file.items())
