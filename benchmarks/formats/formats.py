"""Measures what taking files apart is worth, and what it costs.

    python -m weightvault.benchmarks.formats.formats --corpus DIR [--gib 1]

DIR/llama holds a base model and its GGUF files. Five tables, each a CSV in benchmarks/results:
formats_model (all-MiniLM-L6-v2 in every format in one vault), formats_gguf (quantised files beside
zstd-19, and what each type takes), formats_shards, formats_texts (the small files of MiniLM, and
edits of them, beside zstd-19), formats_speed (segmenting a file of --gib beside hashing it). Every
file is pulled back and compared by SHA-256. Needs PyTorch and the extra `test`.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import zstandard
from blake3 import blake3

from ...codecs.pipeline import encode_tensor
from ...dedup.formats.cutting.content_chunks import cut_opaque
from ...dedup.formats.registry import segment_file
from ...dedup.local_vault import LocalVault
from ...dedup.model.files.segments import CHUNK_BYTES, Literal, Tensor
from ...dedup.transfer.pull import pull
from ...dedup.transfer.push import push
from ..demo import compare
from ..support.machine import RESULTS, save_rows
from ..support.model_files import WRITERS, Arrays, npy_bytes, safetensors_of
from ..support.vaults import open_vault
from ..support.weights import find_minilm, read_f32

Row = dict[str, Any]


def main() -> None:
    """Runs the benchmarks and records them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True, help="folder with llama in it")
    parser.add_argument("--gib", type=float, default=1.0, help="size of the files for speed")
    parser.add_argument("tables", nargs="*", help="of them only these, such as formats_speed")
    arguments = parser.parse_args()
    weights = read_f32(find_minilm() / "model.safetensors")
    llama = arguments.corpus / "llama"
    tables: dict[str, Callable[[], Iterator[Row]]] = {
        "formats_model": lambda: measure_model(weights),
        "formats_shards": lambda: measure_shards(weights),
        "formats_gguf": lambda: chain(
            measure_gguf(llama), measure_shared(llama), measure_types(llama)
        ),
        "formats_texts": measure_texts,
        "formats_speed": lambda: measure_speed(int(arguments.gib * 2**30)),
    }
    for name in arguments.tables or tables:
        record(name, list(tables[name]()))


@contextmanager
def empty_vault() -> Iterator[tuple[LocalVault, Path]]:
    """Gives a vault in a temporary folder, and the folder."""
    with tempfile.TemporaryDirectory(prefix="weightvault-formats-") as temporary:
        root = Path(temporary)
        vault = open_vault(root)
        try:
            yield vault, root
        finally:
            vault.close()


def push_pull(vault: LocalVault, folder: Path, repo: str, out: Path) -> tuple[int, int]:
    """Pushes a folder, compares what comes back, and returns the bytes that the store grew by and
    those of them that are packs: frames with their index. The others are manifest, journal and
    sketches."""
    before = vault.report().stored
    sent = push(vault, folder, repo).sent
    pull(vault, repo, out)
    compare(folder, out)
    return vault.report().stored - before, sent


def push_files(
    vault: LocalVault, root: Path, name: str, files: dict[str, bytes], repo: str | None = None
) -> tuple[int, int]:
    """As `push_pull`, of a new folder with these files; into a repo of its name, or `repo`."""
    folder = root / "in" / name
    folder.mkdir(parents=True)
    for path, data in files.items():
        (folder / path).write_bytes(data)
    return push_pull(vault, folder, repo or f"bench/{name}", root / "out" / name)


def measure_model(weights: Arrays) -> Iterator[Row]:
    """Yields what each further format of one model adds to a vault."""
    with empty_vault() as (vault, root):
        total = first = 0
        for name, write in WRITERS.items():
            data = write(weights)
            added, _ = push_files(vault, root, name, {name: data})
            total += added
            first = first or added
            yield {
                "file": name,
                "logical": len(data),
                "stored": added,
                "of_safetensors_alone": round(total / first, 5),
            }


def measure_shards(weights: Arrays) -> Iterator[Row]:
    """Yields what other shardings of one checkpoint add to a vault: in the order of the file, as
    libraries cut, and tensor by tensor in turn, as nobody does."""
    for order in ("in order", "in turn"):
        with empty_vault() as (vault, root):
            total = first = 0
            for count in (1, 2, 5):
                shards = (_pick_shard(weights, i, count, order) for i in range(count))
                files = {
                    f"model-{i:05}.safetensors": safetensors_of(shard)
                    for i, shard in enumerate(shards)
                }
                added, _ = push_files(vault, root, f"shards-{count}", files)
                total += added
                first = first or added
                share = round(total / first, 5)
                yield {"shards": count, "cut": order, "stored": added, "of_one_file": share}


def _pick_shard(weights: Arrays, i: int, count: int, order: str) -> Arrays:
    names = list(weights)
    if order == "in turn":
        return {name: weights[name] for name in names[i::count]}
    size = sum(array.nbytes for array in weights.values())
    starts = np.cumsum([0] + [weights[name].nbytes for name in names])
    chosen = [n for n, at in zip(names, starts.tolist(), strict=False) if at * count // size == i]
    return {name: weights[name] for name in chosen}


def measure_gguf(llama: Path) -> Iterator[Row]:
    """Yields each GGUF file alone in a vault and beside the model it was made from."""
    with empty_vault() as (shared, root):
        push_pull(shared, llama / "base", "bench/base", root / "base")
        for path in sorted((llama / "gguf").glob("*.gguf")):
            data = path.read_bytes()
            with empty_vault() as (vault, alone):
                stored, packs = push_files(vault, alone, path.stem, {path.name: data})
            peer = len(zstandard.ZstdCompressor(level=19).compress(data))
            added, _ = push_files(shared, root, path.stem, {path.name: data})
            yield {
                "file": path.name,
                "logical": len(data),
                "stored_alone": stored,
                "packs_alone": packs,
                "zstd_19": peer,
                "of_zstd_19": round(stored / peer, 4),
                "packs_of_zstd_19": round(packs / peer, 4),
                "added_beside_base": added,
                "added_of_zstd_19": round(added / peer, 4),
            }


def measure_shared(llama: Path) -> Iterator[Row]:
    """Yields how many tensors of the BF16 GGUF file the model it was made from has, too; all
    others are those that the converter changes: permuted projections, norms widened to F32."""
    base = {digest for _, digest in _digests(llama / "base" / "model.safetensors")}
    tensors = [*_digests(llama / "gguf" / "base-BF16.gguf")]
    changed = [t for t, digest in tensors if digest not in base]
    kinds = ("attn_q.weight", "attn_k.weight", "norm.weight")
    left = [t.name for t in changed if not t.name.endswith(kinds) and "tokenizer" not in t.name]
    yield {
        "file": "tensors of base-BF16.gguf",
        "tensors": len(tensors),
        "in_the_model": len(tensors) - len(changed),
        "not_there_for_no_reason": len(left),
    }


def _digests(path: Path) -> Iterator[tuple[Tensor, bytes]]:
    data = path.read_bytes()
    offset = 0
    for part in segment_file(path.name, io.BytesIO(data), len(data)):
        if isinstance(part, Tensor):
            yield part, blake3(data[offset : offset + part.size]).digest()
        offset += part.size


def measure_types(llama: Path) -> Iterator[Row]:
    """Yields bytes per tensor type over all GGUF files: raw, in frames, as zstd-19 of each."""
    sizes: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for path in sorted((llama / "gguf").glob("*.gguf")):
        data = path.read_bytes()
        offset = 0
        for part in segment_file(path.name, io.BytesIO(data), len(data)):
            raw = data[offset : offset + part.size]
            offset += part.size
            if isinstance(part, Tensor):
                peer = len(zstandard.ZstdCompressor(level=19).compress(raw))
                taken = len(raw), len(encode_tensor(raw, part.coding_dtype)), peer
                sizes[part.dtype] = [a + b for a, b in zip(sizes[part.dtype], taken, strict=True)]
    for dtype, (raw_bytes, stored, peer) in sorted(sizes.items()):
        yield {
            "file": f"type {dtype}",
            "logical": raw_bytes,
            "packs_alone": stored,
            "zstd_19": peer,
            "packs_of_zstd_19": round(stored / peer, 4),
        }


def measure_texts() -> Iterator[Row]:
    """Yields what the small files of MiniLM take in packs: all together, each alone, and each
    again once it was edited."""
    folder = find_minilm()
    texts = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix in (".json", ".md") and path.stat().st_size < 1 << 20
    }
    small = {name.replace("/", " "): t for name, t in texts.items() if len(t) < 16 << 10}
    with empty_vault() as (vault, root):
        _, sent = push_files(vault, root, "texts", small)
        yield _text_row(f"{len(small)} below 16 KiB", list(small.values()), sent)
    for name, text in texts.items():
        yield from _measure_edit(name, text)


def _measure_edit(name: str, data: bytes) -> Iterator[Row]:
    """Yields a text pushed alone, and again with a word replaced by a longer one in its middle."""
    middle = len(data) // 2
    edited = data[:middle] + b"and these words" + data[middle + 4 :]
    with empty_vault() as (vault, root):
        for what, text in (("", data), (" edited", edited)):
            _, sent = push_files(vault, root, "texts" + what, {"text": text}, repo="bench/texts")
            yield _text_row(name + what, [text], sent)


def _text_row(name: str, texts: list[bytes], sent: int) -> Row:
    peer = sum(len(zstandard.ZstdCompressor(level=19).compress(text)) for text in texts)
    return {
        "file": name,
        "logical": sum(map(len, texts)),
        "sent": sent,
        "zstd_19": peer,
        "sent_of_zstd_19": round(sent / peer, 3),
    }


def measure_speed(size: int) -> Iterator[Row]:
    """Yields for each format the seconds to segment a file of some `size` bytes, and to hash it."""
    # As many as models of 1 GiB have, which are made of a few hundred.
    side = 800
    count = size // (4 * side * side)
    block = np.random.default_rng(0).normal(0, 0.02, (side, side)).astype(np.float32)
    # Distinct names over equal bytes: a segmenter reads headers, not weights.
    arrays = {f"model.layers.{i}.mlp.weight": block for i in range(count)}
    writers: dict[str, Callable[[Arrays], bytes]] = {**WRITERS, "array.npy": _one_array}
    for name, write in writers.items():
        with tempfile.NamedTemporaryFile(suffix=f"-{name}") as file:
            file.write(write(arrays))
            file.flush()
            yield _time_file(
                name, Path(file.name), lambda f, n, name=name: segment_file(name, f, n)
            )
            if name == "model.safetensors":
                yield _time_file("unknown", Path(file.name), lambda f, n: cut_opaque(f, 0, n))


def _one_array(arrays: Arrays) -> bytes:
    return npy_bytes(np.concatenate(list(arrays.values())))


def _time_file(name: str, path: Path, segment: Callable[[Any, int], list[Any]]) -> Row:
    size = path.stat().st_size
    with path.open("rb") as file:
        segments = segment(file, size)
        seconds = median(_time(lambda: segment(file, size)) for _ in range(7))
    hashing = median(_time(lambda: _hash_file(path)) for _ in range(5))
    return {
        "file": name,
        "bytes": size,
        "tensors": sum(isinstance(part, Tensor) for part in segments),
        "others": sum(not isinstance(part, Tensor | Literal) for part in segments),
        "segment_seconds": round(seconds, 5),
        "hash_seconds": round(hashing, 3),
        "percent_of_hashing": round(100 * seconds / hashing, 2),
        "gb_per_second": round(size / seconds / 1e9, 2),
    }


def _time(action: Callable[[], object]) -> float:
    """Seconds of the processor, all threads together: others may be at work on the machine."""
    started = time.process_time()
    action()
    return time.process_time() - started


def _hash_file(path: Path) -> None:
    """Reads and hashes a file as a push does: the whole, and chunks of it."""
    hasher = blake3(max_threads=blake3.AUTO)
    with path.open("rb") as file:
        while data := file.read(CHUNK_BYTES):
            hasher.update(data)
            blake3(data, max_threads=blake3.AUTO).digest()


def record(name: str, rows: list[Row]) -> None:
    """Writes rows with the machine they were measured on, and prints them."""
    save_rows(RESULTS / f"{name}.csv", rows)
    for row in rows:
        print(name, row, flush=True)


if __name__ == "__main__":
    main()
