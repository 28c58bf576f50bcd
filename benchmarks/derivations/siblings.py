"""Measures what quantised files take beside a source that is not the one they were made of.

    python -m weightvault.benchmarks.derivations.siblings --corpus DIR

DIR/llama has GGUF files that llama.cpp wrote from the model in base, and a fine-tune of it in
tuned. gguf_siblings.csv: for each file, its derived frames in % of the bytes of its tensors, with
the Q8_0 file, the Q6_K file and the fine-tune's bf16 as the source, how many of the frames are
staged, and MB of tensors decoded per second of processor.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from blake3 import blake3

from ...codecs.frame import parse_header
from ...codecs.quantised.staged import STAGED
from ...dedup.derivations import derived_frames
from ...dedup.derivations.operations.gguf.layout import KINDS
from ...dedup.derivations.recipe import Axes, Operand, Piece, Recipe
from ..codecs.delta_pairs import read_words
from ..support.machine import RESULTS, save_rows
from .gguf_exact import FILES, Bytes, Row, read_tensors

_GGUF = 10
_HEADS = {"attn_q": 4, "attn_k": 2}
_MODULES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_OUTER = {
    "output.weight": "lm_head.weight",
    "token_embd.weight": "model.embed_tokens.weight",
}

Source = tuple[Operand, Bytes]


def main() -> None:
    """Runs the benchmark and records it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True, help="folder with llama in it")
    rows = list(measure(parser.parse_args().corpus / "llama"))
    save_rows(RESULTS / "gguf_siblings.csv", rows)


def measure(folder: Path) -> Iterator[Row]:
    """Yields a row for each source and file."""
    files = {name: read_tensors(folder / "gguf" / f"base-{name}.gguf") for name in FILES}
    sources = {name: find_quantised(files[name]) for name in ("Q8_0", "Q6_K")}
    sources["tuned BF16"] = find_relatives(folder / "tuned" / "model.safetensors")
    for source, operands in sources.items():
        for name, tensors in files.items():
            # A file tells nothing that is finer than itself.
            if source == "tuned BF16" or name not in ("Q8_0", source):
                row = {"source": source, "file": name, **_measure_file(tensors, operands)}
                print(row, flush=True)
                yield row


def find_quantised(tensors: Mapping[str, tuple[str, Bytes]]) -> dict[str, Source]:
    """Returns the tensors of a GGUF file as sources."""
    kept = {name: each for name, each in tensors.items() if each[0] in KINDS}
    return {name: (Operand(dtype, (_piece(raw),)), raw) for name, (dtype, raw) in kept.items()}


def find_relatives(path: Path) -> dict[str, Source]:
    """Returns the tensors of a Llama in safetensors as sources, by the names and with the rows that
    the converter gives them."""
    found = {}
    words = read_words(path)
    blocks = {
        f"blk.{layer}.{ours}.weight": f"model.layers.{layer}.{theirs}.weight"
        for layer in range(sum(name.endswith("q_proj.weight") for name in words))
        for ours, theirs in _MODULES.items()
    }
    for ours, theirs in {**_OUTER, **blocks}.items():
        tensor = words[theirs]
        raw = tensor.reshape(-1).view("u1")
        heads = _HEADS.get(ours.split(".")[-2])
        axes = None
        if heads is not None:
            rows, columns = tensor.shape
            axes = Axes((heads, 2, rows // heads // 2, columns), (0, 2, 1, 3))
        found[ours] = Operand("BF16", (_piece(raw),), arrangement=axes), raw
    return found


def _piece(raw: Bytes) -> Piece:
    return Piece(blake3(raw.tobytes()).digest(), raw.size)


def _measure_file(tensors: Mapping[str, tuple[str, Bytes]], sources: Mapping[str, Source]) -> Row:
    total = coded = staged = 0
    seconds = 0.0
    kept = {name: each for name, each in tensors.items() if each[0] in KINDS}
    for name, (dtype, raw) in kept.items():
        frame = _encode(dtype, raw, *sources[name])
        header = parse_header(frame)
        staged += frame[header.body_offset] == STAGED
        start = time.process_time()
        out = bytearray(raw.size)
        given = sources[name][1]
        derived_frames.decode(frame, header, lambda *_, raw=given: raw, 0, raw.size, out)
        seconds += time.process_time() - start
        assert out == raw.tobytes()
        total, coded = total + raw.size, coded + len(frame)
    return {
        "tensors": len(kept),
        "bytes": total,
        "percent": round(100 * coded / total, 3),
        "staged": staged,
        "decode_mb_per_s": round(total / seconds / 1e6, 1),
    }


def _encode(dtype: str, raw: Bytes, operand: Operand, given: Bytes) -> bytes:
    recipe, digest = Recipe(_GGUF, 1, (operand,)), blake3(raw.tobytes()).digest()
    frame = derived_frames.encode(
        raw.data, dtype, digest, recipe, lambda *_: given, most_bytes=2 * raw.size
    )
    assert frame is not None
    return frame


if __name__ == "__main__":
    main()
