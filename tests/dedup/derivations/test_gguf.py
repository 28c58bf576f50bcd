"""The block types of GGUF as operations: defined for every input, the same everywhere, for ever."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants
from gguf_digests import compute_all
from gguf_samples import make_edges, make_integers, make_weights
from hypothesis import given, settings
from hypothesis import strategies as st

from weightvault.codecs.buffers import freeze
from weightvault.codecs.simd import paths
from weightvault.dedup.derivations.operations.dequantise import dequantise as read_values
from weightvault.dedup.derivations.operations.errors import InvalidRecipe
from weightvault.dedup.derivations.operations.gguf import blocks, dequantise, iq4, mx
from weightvault.dedup.derivations.operations.gguf.arithmetic import from_half_kernel, to_half
from weightvault.dedup.derivations.operations.gguf.lanes.vectors import LANES
from weightvault.dedup.derivations.operations.gguf.layout import (
    FACTOR,
    KINDS,
    QUANT,
    fields,
    find_geometry,
    join,
    split,
)
from weightvault.dedup.derivations.operations.registry import find_operation
from weightvault.dedup.derivations.operations.values import Values

GOLDEN = Path(__file__).parent / "golden" / "gguf.json"
# Quantised by NumPy in the package gguf; it rounds like llama.cpp.
WITH_REFERENCE = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "MXFP4", "TQ1_0", "TQ2_0")
SEARCHED = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS")
HOSTILE = st.one_of(
    st.floats(width=32),
    st.sampled_from([0.0, -0.0, 1e-15, 9.9e-16, 1e-45, -1e-38, 3.4e38, -3.4e38, 1e19, 1e-10]),
)


def quantised(kind: str, source: np.ndarray) -> np.ndarray:
    size = find_geometry(kind)
    out = np.empty(source.size // size.elements * size.block_bytes, np.uint8)
    blocks.quantise(kind, source, out)
    return out


def values_of(kind: str, data: np.ndarray) -> np.ndarray:
    size = find_geometry(kind)
    out = np.empty(data.size // size.block_bytes * size.elements, np.float32)
    dequantise.dequantise(kind, data, out)
    return out


def random_blocks(kind: str, count: int) -> np.ndarray:
    numbers = make_integers(count * find_geometry(kind).block_bytes, seed=11)
    return np.array(numbers, np.uint32).astype(np.uint8)


@pytest.fixture(params=paths.available_paths())
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    paths.force_path(request.param)
    yield request.param
    paths.force_path(None)


@pytest.mark.usefixtures("path")
def test_operations_compute_what_they_always_did():
    assert compute_all() == json.loads(GOLDEN.read_text())


def test_the_definition_needs_no_compiler():
    """Plain Python gives the same bytes: nothing hangs on how kernels are compiled."""
    program = (
        "import json, sys; import numpy as np; np.seterr(all='ignore')\n"
        "from gguf_digests import compute_all\n"
        "from weightvault.codecs.simd import paths; paths.force_path('portable')\n"
        "print(json.dumps(compute_all(1, 4)))"
    )
    path = str(Path(__file__).parents[2] / "support")
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == compute_all(1, 4)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_fields_hold_every_bit_of_a_block(kind: str, data: st.DataObject):
    size = 3 * find_geometry(kind).block_bytes
    raw = np.frombuffer(data.draw(st.binary(min_size=size, max_size=size)), np.uint8)
    parts = split(kind, raw)
    assert np.array_equal(join(kind, parts), raw)
    for field in fields(kind):
        assert parts[field.name].size == 3 * field.count
        assert parts[field.name].dtype == (np.uint16 if field.bits == 16 else np.uint8)
        assert int(parts[field.name].max()) < 1 << field.bits
    assert sum(f.count * f.bits for f in fields(kind)) == 8 * find_geometry(kind).block_bytes


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_the_reference(kind: str):
    raw = random_blocks(kind, 64)
    with np.errstate(all="ignore"):
        wanted = quants.dequantize(raw.reshape(64, -1), GGMLQuantizationType[kind]).reshape(-1)
    found = values_of(kind, raw)
    is_nan = np.isnan(wanted)
    assert np.array_equal(found[~is_nan], wanted[~is_nan])
    assert set(found[is_nan].view(np.uint32).tolist()) <= {0x7FC00000}


@pytest.mark.parametrize("kind", WITH_REFERENCE)
def test_blocks_are_those_of_the_reference(kind: str):
    source = make_weights(40)
    wanted = quants.quantize(source.reshape(1, -1), GGMLQuantizationType[kind]).reshape(-1)
    assert np.array_equal(quantised(kind, source), wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_come_near_their_source(kind: str):
    source = make_weights(40)
    apart = values_of(kind, quantised(kind, source)) - source
    # The coarsest keep a sign and a magnitude.
    assert np.square(apart).mean() < np.square(source).mean() * (0.9 if "TQ" in kind else 0.12)


@pytest.mark.parametrize("kind", KINDS)
def test_given_fields_stay_and_the_rest_follows(kind: str):
    source = np.concatenate([make_weights(40), make_edges()])
    whole, stored = quantised(kind, source), random_blocks(kind, source.size // 32)
    stored = stored[: whole.size]
    for function, last in (
        (blocks.scales_given_factors, FACTOR),
        (blocks.quants_given_scales, QUANT - 1),
    ):
        out = np.empty_like(whole)
        function(kind, source, stored, out)
        found, kept = split(kind, out), split(kind, stored)
        for field in fields(kind):
            if field.stage <= last:
                assert np.array_equal(found[field.name], kept[field.name]), field.name
        again = stored.copy()
        function(kind, source, again, again)
        assert np.array_equal(again, out)
        # What is true of the source leads to the whole block.
        function(kind, make_weights(40), quantised(kind, make_weights(40)), out[: _size(kind)])
        assert np.array_equal(out[: _size(kind)], quantised(kind, make_weights(40)))


def _size(kind: str) -> int:
    size = find_geometry(kind)
    return 40 * 256 // size.elements * size.block_bytes


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_are_independent(kind: str):
    source, size = make_edges(), find_geometry(kind)
    whole, step = quantised(kind, source), max(size.elements, 256)
    for first in range(0, source.size, 5 * step):
        part = quantised(kind, source[first : first + step])
        start = first // size.elements * size.block_bytes
        assert np.array_equal(part, whole[start : start + part.size])


@pytest.mark.parametrize("kind", KINDS)
def test_a_quantised_sibling_predicts_most_of_its_own_blocks(kind: str):
    """Values that already lie on the grid of a type fall on it again."""
    once = quantised(kind, make_weights(40))
    again = split(kind, quantised(kind, values_of(kind, once)))["quants"]
    assert (again == split(kind, once)["quants"]).mean() > 0.9


@pytest.mark.parametrize("kind", SEARCHED)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_runs_side_by_side_are_as_runs_alone(kind: str, data: st.DataObject):
    """Whatever bits a source has; a few of any among many like weights."""
    source = make_weights(LANES)
    for _ in range(40):
        at = data.draw(st.integers(0, source.size - 1))
        source[at : at + data.draw(st.sampled_from([1, 16, 300]))] = data.draw(HOSTILE)
    words = np.array(make_integers(4 * 256, data.draw(st.integers(0, 1 << 30))), np.uint32)
    source[-words.size :] = words.view(np.float32)
    found = quantised(kind, source)
    paths.force_path("portable")
    try:
        assert np.array_equal(quantised(kind, source), found)
    finally:
        paths.force_path(None)


def test_what_does_not_fit_is_refused():
    source = make_weights(1)
    with pytest.raises(ValueError, match="IQ1_S"):
        blocks.quantise("IQ1_S", source, np.empty(50, np.uint8))
    for wrong in (143, 145, 288):
        with pytest.raises(ValueError, match="Q4_K"):
            blocks.quantise("Q4_K", source, np.empty(wrong, np.uint8))
    with pytest.raises(ValueError, match="Q4_K"):
        blocks.quantise("Q4_K", source[:255], np.empty(144, np.uint8))
    with pytest.raises(ValueError, match="Q4_K"):
        dequantise.dequantise("Q4_K", np.empty(288, np.uint8), source)
    parts = split("Q4_K", np.zeros(288, np.uint8))
    with pytest.raises(ValueError, match="different numbers"):
        join("Q4_K", {**parts, "scales": parts["scales"][:8]})


def test_recipes_can_name_it():
    source = make_weights(2)
    operation = find_operation(10, 1)
    for dtype, raw in (
        ("F32", source.view(np.uint8)),
        ("BF16", (source.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)),
    ):
        out = np.empty(288, np.uint8)
        operation.check([dtype], "Q4_K", b"")
        operation.predict([Values(dtype, freeze(raw))], "Q4_K", 0, b"", out)
        floats = source if dtype == "F32" else (source.view(np.uint32) >> 16 << 16).view(np.float32)
        assert np.array_equal(out, quantised("Q4_K", floats))
        values = np.empty(512, np.float32)
        read_values("Q4_K", out, values)
        assert np.array_equal(values, values_of("Q4_K", out))
    for dtypes, dtype, parameters in (
        (["I8"], "Q4_K", b""),
        (["F32", "F32"], "Q4_K", b""),
        (["F32"], "IQ1_S", b""),
        (["F32"], "F16", b""),
        (["F32"], "Q4_K", b"1"),
    ):
        with pytest.raises(InvalidRecipe):
            operation.check(dtypes, dtype, parameters)


def test_halves_convert_as_ieee_says():
    bits = np.arange(65536, dtype=np.uint16)
    found, wanted = np.empty(65536, np.float32), bits.view(np.float16).astype(np.float32)
    from_half_kernel(bits, found)
    assert np.array_equal(found, wanted, equal_nan=True)
    finite = wanted[np.isfinite(wanted)]
    middles = (np.sort(finite)[1:] + np.sort(finite)[:-1]) / 2
    samples = np.concatenate([middles, np.nextafter(middles, np.float32(1e9)), [65519.9, 65520]])
    with np.errstate(over="ignore"):
        expected = samples.astype(np.float32).astype(np.float16).view(np.uint16).tolist()
    assert [to_half(np.float32(value)) for value in samples] == expected


def test_values_between_two_quants_go_to_the_higher():
    bounds = (iq4.VALUES[1:] + iq4.VALUES[:-1]) / 2
    below = np.nextafter(bounds, np.float32(-1000))
    assert [iq4.find_nearest(value) for value in bounds] == list(range(1, 16))
    assert [iq4.find_nearest(value) for value in below] == list(range(15))


def test_logarithms_round_before_they_are_cut():
    for power in (-149, -140, -126, -64, -5, -4, -1, 0, 1, 2, 7, 127):
        exact = np.float32(2.0**power)
        assert mx._floor_log2(exact) == power
        for steps in range(1, 120):
            value = np.float32(2.0**power * (1 - steps * 2.0**-24))
            wanted = np.floor(np.float32(np.log2(np.float64(value)))) if value else None
            assert wanted is None or mx._floor_log2(value) == wanted, (power, steps)
