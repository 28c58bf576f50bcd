"""The library for asyncio, on a folder and a server."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Coroutine, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from models import make_weights, write_model

import weightvault as wv
from weightvault.api.library.adapters.in_threads import in_steps, in_thread
from weightvault.dedup.reading import chunk_reader
from weightvault.store.cancel import Cancelled, check_cancelled

PAGE = Path(__file__).parents[3] / "docs" / "library.md"
SECONDS = 60
STATE = {f"w{i}": np.full((300, 100), i, np.float32) for i in range(8)}


@pytest.fixture(params=["folder", "server"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty vault."""
    return str(tmp_path / "vault") if request.param == "folder" else request.getfixturevalue("live")


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def test_the_example_of_the_page_runs(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = make_weights(1)
    write_model(tmp_path / "tune", weights, "# A model\n")
    monkeypatch.chdir(tmp_path)
    example = re.search(r"## asyncio\n.*?```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert example is not None
    names: dict[str, Any] = {}
    exec(example[1].replace("http://hub:8377", url).replace("asyncio.run(", "made = ("), names)
    weight, part, repos = run(names["made"])
    assert weight.tobytes() == weights["layer.0.weight"].astype(ml_dtypes.bfloat16).tobytes()
    assert part.shape[0] == 10
    assert [repo.name for repo in repos] == ["org/tune"]


@pytest.fixture
def stored(url: str) -> str:
    """The address of a vault with STATE in org/run."""
    with wv.open(url) as vault:
        vault.save("org/run", STATE, metadata={"format": "np"})
    return url


def public(thing: object) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


def test_every_call_has_a_twin_with_its_arguments(tmp_path: Path) -> None:
    async def look() -> None:
        async with wv.aio.open(str(tmp_path / "vault")) as vault:
            await vault.save("org/run", STATE)
            async with vault.safe_open("org/run") as file:
                for ours in (vault, vault["org/run"], file, file.get_slice("w0")):
                    # What the library calls itself.
                    names = public(ours.sync) - {"connect", "on_close", "vault"}
                    assert names <= public(ours), names - public(ours)
                    for name in names:
                        theirs = getattr(ours.sync, name)
                        if callable(theirs):
                            wanted = inspect.signature(theirs).parameters
                            found = inspect.signature(getattr(ours, name)).parameters
                            assert list(found) == list(wanted), name

    run(look())


def test_tensors_are_those_of_the_library(stored: str) -> None:
    async def read() -> None:
        async with wv.aio.open(stored) as vault, vault.safe_open("org/run") as file:
            assert (file.keys(), len(file), "w3" in file) == (sorted(STATE), len(STATE), True)
            assert await file.metadata() == {"format": "np"}
            found = await asyncio.gather(*(file.get_tensor(name) for name in STATE))
            assert all(map(np.array_equal, found, STATE.values()))
            assert np.array_equal(await file.get_slice("w3")[5:9, ::2], STATE["w3"][5:9, ::2])
            assert {n async for n, each in file.items() if np.array_equal(each, STATE[n])} == set(
                STATE
            )
            async for _ in file.items():
                break
            state = await wv.aio.load_file("wv://org/run", vault=vault.sync)
            assert state.keys() == STATE.keys()
            opened = await wv.aio.safe_open("wv://org/run", vault=stored)
            assert opened.keys() == sorted(STATE)
            await opened.close()

    run(read())


def test_repos_and_errors_are_those_of_the_library(stored: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with wv.aio.open(stored) as vault:
            repo = vault["org/run"]
            await repo.tag("v1")
            assert list(await repo.tags()) == ["v1"]
            assert (await repo.log())[0].repo == "org/run"
            await vault.pull("org/run@v1", tmp_path / "copy")
            assert await repo.verify(tmp_path / "copy") == []
            renamed = await repo.rename("org/other")
            assert (renamed.name, await vault.contains("org/other")) == ("org/other", True)
            with pytest.raises(wv.errors.RepoNotFound):
                await vault["org/run"].files()
            with pytest.raises(wv.errors.TensorNotFound):
                async with renamed.safe_open() as file:
                    await file.get_tensor("nothing")
            assert (await vault.report()).repos == 1
        with pytest.raises(wv.errors.InvalidInput):
            async with wv.aio.open("ftp://nowhere"):
                pass

    run(work())


class Gate:
    """A place in a thread's way, where it waits until it may go on."""

    def __init__(self) -> None:
        self.reached, self.free, self.ended = Event(), Event(), Event()

    def check(self) -> None:
        self.reached.set()
        assert self.free.wait(SECONDS)
        try:
            check_cancelled()
        except Cancelled:
            self.ended.set()
            raise

    async def cancel_at(self, work: Coroutine[Any, Any, Any]) -> None:
        """Cancels `work` where it waits, and lets its thread go on."""
        task = asyncio.ensure_future(work)
        assert await asyncio.to_thread(self.reached.wait, SECONDS)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        self.free.set()
        assert await asyncio.to_thread(self.ended.wait, SECONDS)


def test_a_cancelled_pull_ends_and_leaves_no_file(
    stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    monkeypatch.setattr(chunk_reader, "check_cancelled", gate.check)

    async def work() -> None:
        async with wv.aio.open(stored) as vault:
            await gate.cancel_at(vault.pull("org/run", tmp_path / "copy"))
            assert not (tmp_path / "copy" / "model.safetensors").exists()
            await vault.pull("org/run", tmp_path / "copy")
            assert await vault["org/run"].verify(tmp_path / "copy") == []

    run(work())


def test_a_tensor_fetched_ahead_for_a_cancelled_call_is_fetched_again(
    stored: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()

    async def work() -> None:
        async with wv.aio.open(stored) as vault, vault.safe_open("org/run") as file:
            names = file.keys()
            for name in names[:4]:
                await file.get_tensor(name)
            monkeypatch.setattr(chunk_reader, "check_cancelled", gate.check)
            await gate.cancel_at(file.get_tensor(names[4]))
            for name in names:
                assert np.array_equal(await file.get_tensor(name), STATE[name])

    run(work())


def test_what_a_cancelled_call_opened_is_closed() -> None:
    gate, closed = Gate(), Event()

    class Thing:
        def close(self) -> None:
            closed.set()

    def slow() -> Thing:
        gate.reached.set()
        assert gate.free.wait(SECONDS)
        gate.ended.set()
        return Thing()

    async def work() -> None:
        await gate.cancel_at(in_thread(slow))
        assert await asyncio.to_thread(closed.wait, SECONDS)

    run(work())


def test_steps_that_are_not_all_taken_are_closed() -> None:
    closed = Event()

    def count() -> Iterator[int]:
        try:
            yield from range(5)
        finally:
            closed.set()

    async def work() -> list[int]:
        steps = in_steps(count)
        found = [await anext(steps), await anext(steps)]
        await steps.aclose()
        return found

    assert run(work()) == [0, 1]
    assert closed.is_set()
