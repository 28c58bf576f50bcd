"""How the library reads: slices as numpy's, few bytes for few rows, ahead, over broken lines."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, basic_indices
from vaults import CountingReads, open_local

import weightvault as wv
from weightvault.api.client import transport
from weightvault.api.library.slices import plan_reading
from weightvault.dedup.local_vault import LocalVault

RNG = np.random.default_rng(6)
ROW = 768
# A chunk and a part of one, a row of them a small part of a block.
BASE = RNG.normal(0, 0.05, (12_000, ROW)).astype(np.float32)
TUNE = BASE + RNG.normal(0, 1e-5, BASE.shape).astype(np.float32)
MIB = 1 << 20


def read_planned(array: np.ndarray[Any, Any], index: Any) -> tuple[Any, int]:
    """What a plan takes of an array, and how many elements it reads."""
    plan = plan_reading(array.shape, index, array.itemsize)
    flat = array.reshape(-1)
    parts = [flat[start:stop] for start, stop in plan.ranges]
    read = np.concatenate(parts) if parts else flat[:0]
    return read.reshape(plan.shape)[plan.index], read.size


@settings(deadline=None, max_examples=300)
@given(data=st.data(), shape=array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6))
def test_a_plan_reads_what_numpy_takes(data: st.DataObject, shape: tuple[int, ...]) -> None:
    index = data.draw(basic_indices(shape, allow_newaxis=False, allow_ellipsis=True))
    array = np.arange(np.prod(shape, dtype=int), dtype=np.int64).reshape(shape)
    found, _ = read_planned(array, index)
    wanted = array[index]
    assert np.shape(found) == np.shape(wanted)
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize(
    ("index", "rows"),
    [(5, 1), (slice(3, 9), 6), (slice(9, 3, -2), 5), ((slice(7, 8), slice(0, 2)), 1)],
)
def test_a_plan_reads_no_row_in_vain(index: Any, rows: int) -> None:
    array = np.zeros((100, 3, 4))
    assert read_planned(array, index)[1] == rows * 12
    assert read_planned(array, (5, 1, slice(1, 3)))[1] == 2


def test_rows_that_are_far_apart_are_read_one_by_one() -> None:
    plan = plan_reading((1000, 1 << 18), slice(None, None, 100), 4)
    assert [stop - start for start, stop in plan.ranges] == [1 << 18] * 10


class Counted:
    """A vault with a tune stored as deltas on its base, and a count of what is read of packs."""

    def __init__(self, root: Path) -> None:
        reads: list[CountingReads] = []

        def wrap(backend: Any) -> CountingReads:
            reads.append(CountingReads(backend))
            return reads[-1]

        self.vault: LocalVault = open_local(root, wrap)
        self.reads = reads[0]


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counted]:
    counted = Counted(tmp_path_factory.mktemp("family") / "served")
    folder = tmp_path_factory.mktemp("models")
    with wv.open(str(folder / "unused")) as saver:
        saver._opened = counted.vault
        saver.save("org/base", {"w": BASE})
        saver.save("org/tune", {"w": TUNE, "small": TUNE[0]}, base="org/base")
        saver._opened = None
    yield counted
    counted.vault.close()


@pytest.fixture
def url(server: Any, family: Counted) -> str:
    """The address of a server of the family."""
    server.switch(family.vault)
    return server.url


def test_a_row_of_a_delta_takes_few_bytes_of_frames(url: str, family: Counted) -> None:
    digests = family.vault.resolve("org/tune").manifest.digests()
    frames = family.vault.catalogue.locate(list(digests))
    assert sum(place.frame_bytes for place in frames.values()) < TUNE.nbytes / 2
    with wv.open(url) as vault, vault.safe_open("org/tune") as f:
        family.reads.bytes = 0
        found = f.get_slice("w")[7_001]
        assert found.tobytes() == TUNE[7_001].tobytes()
        assert 0 < family.reads.bytes <= 4 * MIB


def test_slices_of_a_vault_are_those_of_numpy(url: str) -> None:
    with wv.open(url) as vault, vault.safe_open("org/tune") as f:
        part = f.get_slice("w")

        # Rows at the ends of chunks and blocks among them.
        @settings(deadline=None, max_examples=25)
        @given(
            start=st.sampled_from([0, 1, 341, 10_922, 10_923, 11_999]) | st.integers(0, 12_000),
            count=st.integers(0, 40),
            step=st.sampled_from([1, 2, 7]),
            columns=st.sampled_from([slice(None), slice(5, 9), 3, slice(None, None, -5)]),
        )
        def check(start: int, count: int, step: int, columns: Any) -> None:
            index = slice(start, start + count, step), columns
            assert np.array_equal(part[index], TUNE[index])

        check()


def test_tensors_read_in_order_are_fetched_ahead(vault_of_many: tuple[wv.Vault, list[int]]) -> None:
    vault, asked = vault_of_many
    for order in ("keys", "offset_keys"):
        with vault.safe_open("org/many") as f:
            del asked[:]
            for name in getattr(f, order)():
                assert f.get_tensor(name)[0] == int(name[1:])
            assert len(asked) <= 4, order
            # Not in order: each is asked for alone, and what was fetched ahead is let go of.
            assert f.get_tensor("t7")[0] == 7
            assert f.get_tensor("t3")[0] == 3


@pytest.fixture
def vault_of_many(tmp_path: Path) -> Iterator[tuple[wv.Vault, list[int]]]:
    """A vault with 24 tensors of a chunk each, and the sizes of the requests for frames."""
    asked: list[int] = []
    with wv.open(str(tmp_path / "vault")) as vault:
        tensors = {f"t{i}": np.full(40_000, i, np.float32) for i in range(24)}
        vault.save("org/many", tensors)
        inner = vault.connect()
        read = inner.read_frames

        def read_frames(repo: str, revision: str, digests: Any) -> Iterator[bytes]:
            asked.append(len(digests))
            return read(repo, revision, digests)

        inner.read_frames = read_frames  # type: ignore[method-assign]
        yield vault, asked


def test_arrays_are_the_callers_own(tmp_path: Path) -> None:
    value = np.arange(40_000, dtype=np.float32)
    with wv.open(str(tmp_path / "vault")) as vault:
        # Equal tensors are stored once, and decoded once.
        vault.save("org/same", {"a": value, "b": value, "c": value + 1})
        with vault.safe_open("org/same") as f:
            for _ in range(2):
                for read in (dict(f.items()), {name: f.get_tensor(name) for name in f}):
                    for array in read.values():
                        array += 1
                    assert np.array_equal(read["a"], value + 1)
                    assert np.array_equal(read["b"], value + 1)
                    assert np.array_equal(read["c"], value + 2)


class Cutter:
    """A way to a server that breaks each of the first connections after so many bytes of answers,
    once it is told to."""

    def __init__(self, target: str) -> None:
        self._target = "127.0.0.1", int(target.rpartition(":")[2])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.cuts: list[int] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            pairs = ((client, server, False), (server, client, True))
            for source, sink, counted in pairs:
                threading.Thread(
                    target=self._pass_on, args=(source, sink, counted), daemon=True
                ).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        done = 0
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if counted and self.cuts and self.cuts[0] == 0:
                    self.cuts.pop(0)
                    break
                done += len(data)
                sink.sendall(data)
                if counted and self.cuts and done >= self.cuts[0]:
                    self.cuts.pop(0)
                    break
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def cutter(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cutter]:
    monkeypatch.setattr(transport, "_RETRY_DELAYS_SECONDS", (0.0,))
    made = Cutter(url)
    yield made
    made.close()


READS: list[tuple[Callable[[wv.TensorFile], Any], Any]] = [
    (lambda f: f.get_tensor("w"), TUNE),
    (lambda f: f.get_slice("w")[2000:4000], TUNE[2000:4000]),
]


@pytest.mark.parametrize(("read", "wanted"), READS)
@pytest.mark.parametrize("cuts", [[3 * MIB], [MIB, 2 * MIB]])
def test_reading_goes_on_where_a_connection_broke(
    cutter: Cutter, read: Callable[[wv.TensorFile], Any], wanted: Any, cuts: list[int]
) -> None:
    with wv.open(cutter.url) as vault, vault.safe_open("org/tune") as f:
        cutter.cuts[:] = cuts
        assert np.array_equal(read(f), wanted)
        assert len(cutter.cuts) < len(cuts)


@pytest.mark.parametrize(("read", "wanted"), READS)
def test_connections_that_always_break_are_an_error(
    cutter: Cutter, read: Callable[[wv.TensorFile], Any], wanted: Any
) -> None:
    with wv.open(cutter.url) as vault, vault.safe_open("org/tune") as f:
        cutter.cuts[:] = [0] * 100
        with pytest.raises(wv.errors.Unreachable):
            read(f)
        del cutter.cuts[:]
        assert np.array_equal(read(f), wanted)
