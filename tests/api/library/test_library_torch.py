"""Models of PyTorch: weights loaded from a vault, and weights that are encoded in memory."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import weightvault as wv

torch = pytest.importorskip("torch")
nn = torch.nn


class Net(nn.Module):
    """An embedding that is tied to the last layer, a convolution, and linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(600, 128)
        self.conv = nn.Conv1d(128, 128, 3, padding=1)
        self.layers = nn.ModuleList(nn.Linear(128, 128 * (1 + i)) for i in range(3))
        self.norm = nn.LayerNorm(128)
        self.head = nn.Linear(128, 600, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Any) -> Any:
        found = self.conv(self.embed(tokens).transpose(1, 2)).transpose(1, 2)
        for layer in self.layers:
            found = found + layer(found)[..., :128]
        return self.head(self.norm(found))


def make(seed: int, dtype: Any = None) -> Any:
    torch.manual_seed(seed)
    return Net().to(dtype or torch.bfloat16).eval()


def tune(model: Any, seed: int) -> Any:
    torch.manual_seed(seed)
    made = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += torch.randn_like(parameter) * 1e-5
    return made


TOKENS = torch.arange(0, 600, 11).reshape(5, 11)


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[wv.Vault]:
    with wv.open(str(tmp_path / "vault")) as opened:
        yield opened


@torch.no_grad()
def outputs(model: Any) -> bytes:
    return model(TOKENS).view(torch.uint8).numpy().tobytes()


def save(vault: wv.Vault, model: Any, *paths: str) -> None:
    state = model.state_dict()
    del state["head.weight"]
    names = sorted(state)
    for number, path in enumerate(paths):
        part = {name: state[name] for name in names[number :: len(paths)]}
        vault.save("org/net", part, path=path)


@pytest.mark.parametrize("paths", [["model.safetensors"], ["1.safetensors", "2.safetensors"]])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_weights_are_loaded_bit_for_bit(vault: wv.Vault, paths: list[str], device: str) -> None:
    wanted = make(1)
    save(vault, wanted, *paths)
    with torch.device(device):
        model = Net().to(torch.bfloat16).eval()
    model.head.weight = model.embed.weight
    assert wv.torch.load_state_dict(model, "wv://org/net", vault=vault) == ([], [])
    assert outputs(model) == outputs(wanted)
    assert model.head.weight is model.embed.weight


def test_what_does_not_fit_changes_nothing(vault: wv.Vault) -> None:
    save(vault, make(1), "model.safetensors")
    state = make(1).state_dict()
    model = make(2)
    before = outputs(model)
    for change in ({"norm.bias": None}, {"more": torch.zeros(3)}, {"norm.bias": torch.zeros(3)}):
        given = {k: v for k, v in (state | change).items() if v is not None and k != "head.weight"}
        vault.save("org/other", given)
        with pytest.raises(RuntimeError, match="do not fit"):
            wv.torch.load_state_dict(model, "wv://org/other", vault=vault)
        assert outputs(model) == before
    vault.save("org/other", {"norm.bias": torch.ones(128), "more": torch.zeros(3)})
    keys = wv.torch.load_state_dict(model, "wv://org/other", vault=vault, strict=False)
    assert keys.unexpected_keys == ["more"]
    assert "embed.weight" in keys.missing_keys
    assert model.norm.bias.dtype == torch.bfloat16
    assert model.norm.bias.sum() == 128


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_encoded_weights_compute_the_same(dtype: Any) -> None:
    model = make(1, dtype)
    wanted, state = outputs(model), copy.deepcopy(model.state_dict())
    encoded = wv.torch.compress(model)
    assert encoded.nbytes < 0.95 * encoded.raw_bytes
    # The first pass learns the order, later ones decode ahead.
    assert [outputs(model) for _ in range(3)] == [wanted] * 3
    assert torch.equal(model.layers[1].weight, state["layers.1.weight"])
    with pytest.raises(wv.errors.InvalidInput):
        wv.torch.compress(model)
    encoded.restore()
    assert type(model.layers[1]) is nn.Linear
    assert model.head.weight is model.embed.weight
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert outputs(model) == wanted


def test_a_weight_far_larger_than_all_others_has_memory_of_its_own() -> None:
    torch.manual_seed(1)
    layers = [nn.Linear(256, 256), nn.Linear(256, 320), nn.Linear(320, 256)]
    head = nn.Linear(256, 4096)

    class Headed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers, self.head = nn.Sequential(*layers), head

        def forward(self, hidden: Any) -> Any:
            # Twice in a row, and once between others.
            found = self.head(hidden)[:, :256] + self.head(self.layers(hidden))[:, -256:]
            return self.layers(found + self.head(found)[:, :256])

    model, hidden = Headed().bfloat16().eval(), torch.randn(3, 256).bfloat16()
    with torch.no_grad():
        wanted = model(hidden)
        encoded = wv.torch.compress(model)
        second, largest = 2 * 256 * 320, 2 * 256 * 4096
        assert encoded.buffer_bytes == 2 * second + largest
        assert all(torch.equal(model(hidden), wanted) for _ in range(4))


def test_tunes_share_a_base() -> None:
    base = make(1)
    tunes = [tune(base, seed) for seed in (2, 3)]
    wanted = [outputs(each) for each in tunes]
    encoded = [wv.torch.compress(each, base=base) for each in tunes]
    assert sum(each.nbytes for each in encoded) < 0.6 * sum(each.raw_bytes for each in encoded)
    assert [outputs(each) for each in tunes] == wanted
    for changed in (base.layers[2], base.embed):
        with torch.no_grad():
            changed.weight[0, 0] += 1
        with pytest.raises(wv.errors.Corrupt):
            outputs(tunes[0])


def test_gradients_flow_through_encoded_weights() -> None:
    model = make(1, torch.float32)
    found = []
    for _ in range(2):
        hidden = torch.randn(4, 128, generator=torch.Generator().manual_seed(7), requires_grad=True)
        total = hidden
        for layer in model.layers:
            total = total + layer(total)[..., :128]
        total.square().sum().backward()
        found.append(hidden.grad)
        if len(found) == 1:
            wv.torch.compress(model)
    assert torch.equal(found[0], found[1])


def train(model: Any, encoded: Any, steps: int) -> None:
    """AdamW on all that learns, a step a pass."""
    rest = torch.optim.AdamW(model.parameters(), lr=1e-3)
    if encoded is not None:
        encoded.train(lambda weight: torch.optim.AdamW([weight], lr=1e-3))
    for _ in range(steps):
        rest.zero_grad()
        model(TOKENS).float().square().mean().backward()
        rest.step()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("with_base", [False, True])
def test_training_of_encoded_weights_is_that_of_plain_ones(dtype: Any, with_base: bool) -> None:
    """The embedding is tied to the head, so that one gradient comes of both."""
    base = make(1, dtype)
    plain, model = tune(base, 2), tune(base, 2)
    encoded = wv.torch.compress(model, base=base if with_base else None)
    before, raw = encoded.nbytes, encoded.raw_bytes
    train(plain, None, 3)
    train(model, encoded, 3)
    assert encoded.nbytes != before
    assert encoded.nbytes < raw
    assert outputs(model) == outputs(plain)
    encoded.restore()
    state = plain.state_dict()
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


def test_memory_of_weights_is_let_go_of_after_their_gradients() -> None:
    model = make(1)
    encoded = wv.torch.compress(model)
    made: list[Any] = []

    def make_optimiser(weight: Any) -> Any:
        made.append(weight)
        return torch.optim.SGD([weight], lr=0.1)

    encoded.train(make_optimiser)
    assert [weight.untyped_storage().nbytes() for weight in made] == [0] * len(made)
    loss = model(TOKENS).float().square().mean()
    assert all(weight.untyped_storage().nbytes() for weight in made)
    loss.backward(retain_graph=True)
    assert [weight.untyped_storage().nbytes() for weight in made] == [0] * len(made)
    # What was let go of is not read again.
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    with torch.no_grad():
        wanted = outputs(model)
    encoded.restore()
    assert outputs(model) == wanted


def test_passes_beside_each_other_and_ones_that_fail() -> None:
    model = make(1)
    wanted = outputs(model)
    wv.torch.compress(model)
    with pytest.raises(IndexError):
        model(torch.tensor([[600]]))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: outputs(model), range(12))) == [wanted] * 12
