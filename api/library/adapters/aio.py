"""The library for asyncio: each call as in `weightvault`, awaited.

    import weightvault as wv

    async with wv.aio.open("http://hub:8377") as vault:
        await vault.push("./tune", "org/tune", message="epoch 3")
        async with vault.safe_open("org/tune@v1") as tensors:
            weight = await tensors.get_tensor("layer.0.weight")
            part = await tensors.get_slice("embed.weight")[:10]
            async for name, tensor in tensors.items():
                ...

Arguments, results and errors are those of the calls of the same names; `sync` is what is
underneath. That is not async: each call runs in a worker thread (`anyio.to_thread`), so the event
loop goes on, and calls that are awaited together run beside each other. A cancelled call returns at
once. Its thread ends at the next chunk or file, or where it waits for an answer, once that or its
time limit has come. As with a process that is killed, nothing is half stored.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine
from typing import Any

from .. import opening, repo, tensor_file, vault
from ..handle import Handle
from .in_threads import Opened, awaited, in_steps, in_thread, opened, twin

__all__ = ["Repo", "TensorFile", "TensorSlice", "Vault", "load_file", "open", "safe_open"]


class TensorSlice:
    """`weightvault.TensorSlice`, whose parts are awaited: `await tensors.get_slice(name)[:10]`."""

    def __init__(self, sync: tensor_file.TensorSlice) -> None:
        self.sync = sync
        self.get_shape = sync.get_shape
        self.get_dtype = sync.get_dtype

    def __getitem__(self, index: Any) -> Coroutine[Any, Any, Any]:
        return in_thread(self.sync.__getitem__, index)


class TensorFile:
    """`weightvault.TensorFile`, of which what reads is awaited. Names are known once it is open."""

    def __init__(self, sync: tensor_file.TensorFile) -> None:
        self.sync = sync
        self.keys = sync.keys
        self.offset_keys = sync.offset_keys

    def __len__(self) -> int:
        return len(self.sync)

    def __contains__(self, name: object) -> bool:
        return name in self.sync

    async def __aenter__(self) -> TensorFile:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Lets go of what is being fetched and of what is kept at hand."""
        await in_thread(self.sync.close)

    metadata = twin(tensor_file.TensorFile.metadata)
    get_tensor = twin(tensor_file.TensorFile.get_tensor)

    def get_slice(self, name: str) -> TensorSlice:
        """Returns a view of a tensor that reads what is indexed of it, once that is awaited. Raises
        TensorNotFound."""
        return TensorSlice(self.sync.get_slice(name))

    def items(self) -> AsyncGenerator[tuple[str, Any]]:
        """Yields every tensor with its name, in file order, what follows being fetched and decoded
        meanwhile."""
        return in_steps(self.sync.items)


class Repo:
    """`weightvault.Repo`, of which every call is awaited."""

    def __init__(self, sync: repo.Repo) -> None:
        self.sync = sync
        self.name = sync.name
        self.revision = sync.revision

    def __repr__(self) -> str:
        return f"aio.{self.sync!r}"

    log = twin(repo.Repo.log)
    branches = twin(repo.Repo.branches)
    tags = twin(repo.Repo.tags)
    tag = twin(repo.Repo.tag)
    delete_tag = twin(repo.Repo.delete_tag)
    branch = twin(repo.Repo.branch)
    delete_branch = twin(repo.Repo.delete_branch)
    diff = twin(repo.Repo.diff)
    snapshot = twin(repo.Repo.snapshot)
    info = twin(repo.Repo.info)
    files = twin(repo.Repo.files)
    tensors = twin(repo.Repo.tensors)
    read = twin(repo.Repo.read)
    safe_open = Opened(repo.Repo.safe_open, TensorFile)
    push = twin(repo.Repo.push)
    pull = twin(repo.Repo.pull)
    save = twin(repo.Repo.save)
    verify = twin(repo.Repo.verify)
    copy = twin(repo.Repo.copy)
    delete = twin(repo.Repo.delete)
    rename = twin(repo.Repo.rename, lambda found: Repo(found))


class Vault:
    """`weightvault.Vault`, of which every call is awaited but `vault["org/tune"]`, which asks
    nothing."""

    def __init__(self, sync: vault.Vault) -> None:
        self.sync = sync
        self.url = sync.url

    def __repr__(self) -> str:
        return f"aio.{self.sync!r}"

    async def __aenter__(self) -> Vault:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __getitem__(self, named: str) -> Repo:
        """Returns a repo, or with `org/tune@v1` a revision of it."""
        return Repo(self.sync[named])

    async def close(self) -> None:
        """Closes connections and files; a closed vault is opened again by using it."""
        await in_thread(self.sync.close)

    contains = twin(vault.Vault.__contains__)
    repos = twin(vault.Vault.repos)
    report = twin(Handle.report)
    push = twin(Handle.push)
    pull = twin(Handle.pull)
    save = twin(Handle.save)
    safe_open = Opened(Handle.safe_open, TensorFile)


# As `weightvault.open` is called.
open = opened(opening.open_vault, Vault)  # noqa: A001
safe_open = opened(opening.safe_open, TensorFile)
load_file = awaited(opening.load_file)
