"""The Python library: what programs import, on a folder, a bucket and a server."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from models import bf16_file, make_weights, tune, write_model

import weightvault as wv
from weightvault.api.library import arrays
from weightvault.api.library.names import Address, parse_address, split_repo
from weightvault.dedup.errors import error_classes

PAGE = Path(__file__).parents[3] / "docs" / "library.md"
RNG = np.random.default_rng(5)
STATE: dict[str, Any] = {
    "f32": RNG.normal(size=(40, 30)).astype(np.float32),
    "bf16": RNG.normal(size=(7, 5)).astype(ml_dtypes.bfloat16),
    "f16": RNG.normal(size=(3, 4, 5)).astype(np.float16),
    "f64": RNG.normal(size=9),
    "f8": RNG.normal(size=(4, 8)).astype(ml_dtypes.float8_e4m3fn),
    "f8_5": RNG.normal(size=(4, 8)).astype(ml_dtypes.float8_e5m2),
    "i64": RNG.integers(0, 1 << 60, 11),
    "u16": RNG.integers(0, 1 << 16, 11).astype(np.uint16),
    "i8": RNG.integers(-9, 9, 11).astype(np.int8),
    "bool": RNG.integers(0, 2, (3, 3)).astype(bool),
    "empty": np.zeros((0, 4), np.float32),
    "scalar": np.float32(3.5),
    "swapped": RNG.normal(size=(6, 5)).astype(np.float32).T,
    "α/b": np.arange(3, dtype=np.int32),
}


@pytest.fixture(params=["folder", "bucket", "server"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty vault of each kind."""
    if request.param == "folder":
        return str(tmp_path / "vault")
    return request.getfixturevalue({"bucket": "s3_url", "server": "live"}[request.param])


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[wv.Vault]:
    """An empty vault in a folder."""
    with wv.open(str(tmp_path / "vault")) as opened:
        yield opened


@pytest.fixture
def stored(vault: wv.Vault) -> wv.Vault:
    """The same, with STATE in org/run."""
    vault.save("org/run", STATE, metadata={"format": "np"})
    return vault


def same(found: Any, wanted: Any) -> bool:
    """Whether two arrays are equal bit for bit, dtype and shape included."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    facts = (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    return facts and found.tobytes() == wanted.tobytes()


def test_the_example_of_the_page_runs(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = make_weights(1)
    write_model(tmp_path / "tune", weights, "# A model\n")
    monkeypatch.chdir(tmp_path)
    example = re.search(r"## Ten lines\n\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert example is not None
    names: dict[str, Any] = {}
    exec(example[1].replace("http://hub:8377", url), names)
    weight = weights["layer.0.weight"].astype(ml_dtypes.bfloat16)
    assert same(names["weight"], weight)
    assert same(names["part"], weights["embed.weight"].astype(ml_dtypes.bfloat16)[:10])
    assert same(names["state"]["w"], np.multiply(weight, 2))
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["model.safetensors"]
    names["v"].close()


def test_all_that_is_promised_is_there() -> None:
    assert set(wv.__all__) <= set(dir(wv))
    # What is for PyTorch needs it; test_library_torch.py looks at that.
    assert all(getattr(wv, name) is not None for name in wv.__all__ if name != "torch")
    with pytest.raises(AttributeError, match="nothing"):
        _ = wv.nothing  # type: ignore[attr-defined]
    assert all(issubclass(kind, wv.VaultError) for kind in error_classes().values())
    for name in wv.errors.__all__:
        assert name in (wv.errors.__doc__ or "") or name == "JournalCut", name


def test_a_state_dict_is_stored_as_safetensors_would_write_it(stored: wv.Vault) -> None:
    plain = {
        name: np.ascontiguousarray(value).reshape(np.shape(value)) for name, value in STATE.items()
    }
    written = safetensors.numpy.save(plain, {"format": "np"})
    assert stored["org/run"].read("model.safetensors") == written
    assert stored["org/run"].read("model.safetensors", 5, 20) == written[5:20]


def test_tensors_are_what_safetensors_gives(stored: wv.Vault, tmp_path: Path) -> None:
    stored.pull("org/run", tmp_path / "copy")
    with (
        stored.safe_open("org/run") as ours,
        safetensors.safe_open(tmp_path / "copy" / "model.safetensors", "np") as theirs,
    ):
        assert (ours.keys(), ours.offset_keys()) == (theirs.keys(), theirs.offset_keys())
        assert ours.metadata() == theirs.metadata() == {"format": "np"}
        for order in (ours.keys(), ours.offset_keys(), reversed(ours.keys())):
            for name in order:
                assert same(ours.get_tensor(name), STATE[name]), name
        for name in ours:
            part = ours.get_slice(name)
            assert part.get_shape() == theirs.get_slice(name).get_shape()
            assert part.get_dtype() == theirs.get_slice(name).get_dtype()
            assert same(part[...], STATE[name])
        assert same(ours.get_slice("f32")[::-3, 2:5], STATE["f32"][::-3, 2:5])
        assert same(dict(ours.items())["bool"], STATE["bool"])
        ours.get_tensor("f64")[:] = 0
        assert same(ours.get_tensor("f64"), STATE["f64"])
        with pytest.raises(wv.errors.TensorNotFound):
            ours.get_tensor("other")
        with pytest.raises(IndexError):
            _ = ours.get_slice("f32")[40]
        with pytest.raises(TypeError):
            _ = ours.get_slice("f32")[[1, 2]]


def test_without_ml_dtypes_there_are_bits(
    stored: wv.Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "_ml_dtypes", lambda: None)
    with stored.safe_open("org/run") as f:
        assert same(f.get_tensor("bf16"), STATE["bf16"].view(np.uint16))
        assert same(f.get_slice("f8")[1:3], STATE["f8"].view(np.uint8)[1:3])


def test_tensors_of_torch_come_and_go(stored: wv.Vault) -> None:
    torch = pytest.importorskip("torch")
    with stored.safe_open("org/run", framework="pt") as f:
        found = dict(f.items())
        assert found["bf16"].dtype == torch.bfloat16
        assert f.get_slice("bf16")[2:4].dtype == torch.bfloat16
        assert found["f8"].dtype == torch.float8_e4m3fn
        assert found["empty"].shape == (0, 4)
        assert found["scalar"].item() == 3.5
    turned = {**found, "swapped": found["swapped"].T.contiguous().T}
    stored.save("org/torch", turned, metadata={"format": "np"})
    one, other = (stored[repo].read("model.safetensors") for repo in ("org/run", "org/torch"))
    assert one == other


@pytest.mark.parametrize("value", [[1.0], "text", np.array(["a"]), np.array([None])])
def test_what_is_no_tensor_is_refused(vault: wv.Vault, value: Any) -> None:
    with pytest.raises(wv.errors.InvalidInput):
        vault.save("org/run", {"w": value})
    assert vault.repos() == []


def test_a_save_keeps_the_other_files_of_a_branch(vault: wv.Vault, tmp_path: Path) -> None:
    vault.push(write_model(tmp_path / "model", make_weights(1), "# A model\n"), "org/model")
    before = {f.path: f.blake3 for f in vault["org/model"].files()}
    vault.save("org/model", STATE, path="state/epoch.safetensors", message="epoch 1\nfine")
    after = {f.path: f.blake3 for f in vault["org/model"].files()}
    assert after.keys() - before.keys() == {"state/epoch.safetensors"}
    assert after.items() > before.items()
    newest = vault["org/model"].log()[0]
    assert (newest.title, newest.message) == ("epoch 1", "fine")


def test_shards_are_one_and_names_that_clash_are_not(vault: wv.Vault, tmp_path: Path) -> None:
    weights = make_weights(1)
    one, two = dict(list(weights.items())[:1]), dict(list(weights.items())[1:])
    for number, part in enumerate((one, two)):
        (tmp_path / f"{number}.safetensors").write_bytes(bf16_file(part))
        vault.save("org/model", part, path=f"{number}.safetensors")
    with vault.safe_open("org/model") as f:
        assert f.keys() == sorted(weights)
    vault.save("org/model", tune(two, 3), path="2.safetensors")
    with pytest.raises(wv.errors.InvalidInput, match="different tensors"):
        vault.safe_open("org/model")
    with vault.safe_open("org/model", file=["0.safetensors", "2.safetensors"]) as f:
        assert f.keys() == sorted(weights)
    with pytest.raises(wv.errors.EntryNotFound):
        vault.safe_open("org/model", file="3.safetensors")


def test_differences_are_told(vault: wv.Vault) -> None:
    first = vault.save("org/run", STATE).id
    changed = {**STATE, "f32": STATE["f32"] * 1.5, "new": np.zeros(2), "u16": STATE["u16"][:4]}
    del changed["f64"]
    vault.save("org/run", changed)
    repo = vault["org/run"]
    found = repo.diff(first[:7], "main", values=True)
    assert [(f.path, f.kind) for f in found.files] == [("model.safetensors", "changed")]
    kinds = {t.name: t.kind for t in found.tensors}
    assert kinds == {"f32": "changed", "u16": "changed", "f64": "removed", "new": "added"}
    (measured,) = [t for t in found.tensors if t.distance is not None]
    assert measured.name == "f32"
    assert measured.distance == pytest.approx(0.5)
    assert measured.largest == pytest.approx(np.abs(STATE["f32"]).max() / 2)
    assert measured.share == 1.0
    assert found.same_tensors == len(STATE) - 3
    assert not repo.diff("main")


def test_repos_are_copied_renamed_verified_and_deleted(stored: wv.Vault, tmp_path: Path) -> None:
    repo = stored["org/run"]
    repo.tag("v1")
    made = repo.copy("lab/copy")
    assert made.manifest == repo.log()[0].manifest
    assert repo.copy("lab/copy") == made
    stored.save("lab/copy", {"w": np.zeros(3)})
    with pytest.raises(wv.errors.Conflict):
        repo.copy("lab/copy")
    renamed = repo.rename("org/new")
    assert renamed.tags() == {"v1": renamed.branches()["main"]}
    renamed.pull(tmp_path / "copy")
    assert renamed.verify(tmp_path / "copy") == []
    (tmp_path / "copy" / "model.safetensors").write_bytes(b"other")
    assert renamed.verify(tmp_path / "copy") == ["model.safetensors"]
    assert list(stored) == ["lab/copy", "org/new"]
    assert "org/new" in stored
    renamed.delete()
    assert "org/new" not in stored


def test_a_folder_that_is_not_there_is_made_by_what_is_stored(tmp_path: Path) -> None:
    with wv.open(str(tmp_path / "vault")) as vault:
        assert vault.repos() == []
        with pytest.raises(wv.errors.Missing):
            vault["org/run"].log()
        assert not (tmp_path / "vault").exists()
        vault.save("org/run", {"w": np.zeros(3)})
    assert (tmp_path / "vault").exists()


def test_many_threads_read_what_is_there(stored: wv.Vault) -> None:
    def read_all(seed: int) -> bool:
        names = list(np.random.default_rng(seed).permutation(list(STATE)))
        ordered = f.keys() if seed % 2 else names
        return all(same(f.get_tensor(name), STATE[name]) for name in ordered)

    with stored.safe_open("org/run") as f, ThreadPoolExecutor(6) as pool:
        assert all(pool.map(read_all, range(12)))


def test_a_forked_process_reads_on(url: str) -> None:
    with wv.open(url) as vault:
        vault.save("org/run", STATE)
        with vault.safe_open("org/run") as f:
            first, second, *rest = f.keys()
            # What is being fetched ahead at that moment is the parent's.
            f.get_tensor(first)
            f.get_tensor(second)
            child = os.fork()
            if child == 0:
                fine = all(same(f.get_tensor(name), STATE[name]) for name in rest)
                os._exit(0 if fine else 1)
            assert all(same(f.get_tensor(name), STATE[name]) for name in rest)
            assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize(
    ("uri", "wanted"),
    [
        ("wv://org/tune", Address(None, "org/tune", "main")),
        ("wv://org/tune@v1/a/b.bin", Address(None, "org/tune", "v1", "a/b.bin")),
        ("wv://datasets/org/d@dev%2Fx/f", Address(None, "datasets/org/d", "dev/x", "f")),
        ("wv://hub:8377/org/tune/f", Address("http://hub:8377", "org/tune", "main", "f")),
        ("wvs://hub/org/tune", Address("https://hub", "org/tune", "main")),
    ],
)
def test_addresses_are_read(uri: str, wanted: Address) -> None:
    assert parse_address(uri) == wanted


@pytest.mark.parametrize(
    "ask",
    [
        lambda: parse_address("http://org/tune"),
        lambda: parse_address("wv://org"),
        lambda: parse_address("wv://org/tune/../x"),
        lambda: parse_address("wv://hub:port/org/tune"),
        lambda: parse_address("wvs:///org/tune"),
        lambda: split_repo("org/tune@v1", "v2"),
        lambda: split_repo("org/tune@"),
        lambda: wv.open("ftp://nowhere"),
    ],
)
def test_addresses_that_are_none_are_refused(ask: Callable[[], object]) -> None:
    with pytest.raises(wv.errors.InvalidInput):
        ask()
