"""Compares on a corpus predicted with real frames, and plans without a hint with declared bases."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ...codecs.pipeline import encode_tensor
from ...dedup.formats.registry import segment_file
from ...dedup.local_vault import LocalVault
from ...dedup.model.files.segments import Tensor
from ...dedup.model.sketch import MIN_BYTES, Sketch, count_differences, make_sketch
from ...dedup.similarity.size_prediction import delta_features, predict_alone, predict_deltas
from ...dedup.transfer.push import push
from ...store.backends.open import open_backend
from ...store.catalogue.catalogue import open_catalogue
from ..serving.corpus import MODELS

_LLAMA = (("base", None), ("tuned", "base"))


def compare_predictions(corpus: Path) -> list[dict[str, Any]]:
    """Returns the mean absolute error of predictions in points of the raw size, by size."""
    pairs = list(encode_pairs(corpus))
    errors = [100 * abs(p["predicted"] - p["real"]) / p["raw"] for p in pairs]
    alone = [100 * abs(p["predicted_alone"] - p["alone"]) / p["raw"] for p in pairs]
    rows = []
    for name, least, most in (
        ("all", 0, 1 << 60),
        ("below 16 KiB", 0, 1 << 14),
        ("from 16 KiB", 1 << 14, 1 << 60),
    ):
        chosen = [i for i, p in enumerate(pairs) if least <= p["raw"] < most]
        rows.append(
            {
                "tensors": name,
                "pairs": len(chosen),
                "mean_error_points": float(np.mean([errors[i] for i in chosen])),
                "p95_error_points": float(np.quantile([errors[i] for i in chosen], 0.95)),
                "mean_error_alone_points": float(np.mean([alone[i] for i in chosen])),
                "mean_bit_distance": float(np.mean([pairs[i]["bit_distance"] for i in chosen])),
                "mean_sketch_bits": float(np.mean([pairs[i]["sketch_bits"] for i in chosen])),
            }
        )
    return rows


def encode_pairs(corpus: Path) -> Iterator[dict[str, Any]]:
    """Yields, for tensors of one name, dtype and size in two models, predicted and real sizes."""
    minilm = [corpus / "minilm" / name for name, _ in MODELS]
    llama = [corpus / "llama" / name for name, _ in _LLAMA]
    for models in (minilm, llama):
        for one, other in combinations([read_tensors(model) for model in models], 2):
            for name, (tensor, raw) in other.items():
                base = one.get(name)
                fits = base is not None and base[0].dtype == tensor.dtype
                if base is not None and fits and base[1] != raw and len(base[1]) == len(raw):
                    yield _compare(tensor, raw, base[1])


def _compare(tensor: Tensor, raw: bytes, base: bytes) -> dict[str, Any]:
    dtype = tensor.coding_dtype
    mine, theirs = make_sketch(raw, dtype), make_sketch(base, dtype)
    words = (np.frombuffer(data, np.uint8) for data in (raw, base))
    differing = int(np.bitwise_count(next(words) ^ next(words)).sum())
    alone = predict_alone(mine)
    return {
        "sketches": (mine, theirs),
        "raw": len(raw),
        "real": len(encode_tensor(raw, dtype, base=base, columns=tensor.columns)),
        "alone": len(encode_tensor(raw, dtype)),
        "predicted": min(alone, *predict_deltas(mine, [theirs])),
        "predicted_alone": alone,
        "bit_distance": differing / (len(raw) // _item_bytes(mine)),
        "sketch_bits": int(count_differences(mine.bits, [theirs.bits])[0]),
    }


def _item_bytes(sketch: Sketch) -> int:
    return 4 if sketch.dtype == "F32" else 2


def read_tensors(model: Path) -> dict[str, tuple[Tensor, bytes]]:
    """Returns the tensors of all files of a model by file and name, with their raw bytes."""
    found: dict[str, tuple[Tensor, bytes]] = {}
    for path in sorted(model.glob("*.safetensors")):
        with path.open("rb") as file:
            offset = 0
            for part in segment_file(path.name, file, path.stat().st_size):
                if isinstance(part, Tensor) and part.size >= MIN_BYTES:
                    file.seek(offset)
                    found[f"{path.name}/{part.name}"] = part, file.read(part.size)
                offset += part.size
    return found


def print_fit(corpus: Path) -> None:
    """Prints the factors of dedup/similarity/size_prediction.py that fit the corpus best, by bytes
    of an element."""
    pairs = list(encode_pairs(corpus))
    for width, least, most in (
        (2, 16384, 1 << 60),
        (2, 2048, 16384),
        (2, 0, 2048),
        (4, 2048, 1 << 60),
        (4, 0, 2048),
    ):
        chosen = [p for p in pairs if _item_bytes(p["sketches"][0]) == width]
        chosen = [p for p in chosen if least <= p["raw"] < most and p["real"] < 0.97 * p["alone"]]
        count = np.array([p["raw"] / width for p in chosen])
        features = np.stack([delta_features(p["sketches"][0], [p["sketches"][1]]) for p in chosen])
        design = np.column_stack([features[:, :, 0], 8 / count])
        target = np.array([8 * p["real"] for p in chosen]) / count
        factors, *_ = np.linalg.lstsq(design, target, rcond=None)
        print(width, least, np.round(factors, 2).tolist())


def compare_corpus(corpus: Path) -> list[dict[str, Any]]:
    """Pushes both corpora with the right bases declared, and without any in random orders."""
    rows = []
    for name, models in (("minilm", MODELS), ("llama", _LLAMA)):
        declared = _push_all(corpus / name, list(models), True)
        rows.append({"corpus": name, "order": "declared", **declared})
        for seed in range(3):
            order = np.random.default_rng(seed).permutation(len(models))
            free = _push_all(corpus / name, [models[i] for i in order], False)
            over = free["optimised"] / declared["pushed"] - 1
            rows.append({"corpus": name, "order": seed, **free, "over_declared": over})
        rows[-4]["over_declared"] = 0.0
    return rows


def _push_all(folder: Path, models: list[tuple[str, str | None]], declare: bool) -> dict[str, int]:
    with tempfile.TemporaryDirectory(prefix="weightvault-families-") as temporary:
        root = Path(temporary)
        backend = open_backend(str(root / "objects"))
        catalogue = open_catalogue(f"sqlite:///{root / 'c.sqlite'}")
        vault = LocalVault(backend, catalogue, scratch=root)
        for name, base in models:
            declared = f"hub/{base}" if declare and base else None
            # Copied without its card, which would name the base.
            push(
                vault,
                _without_card(folder / name, root / "models" / name),
                f"hub/{name}",
                base=declared,
            )
        pushed = vault.report().frames
        cursor: int | None = 0
        while cursor is not None:
            cursor = vault.optimise(cursor).cursor
        report = vault.report()
        vault.close()
    return {"logical": report.logical, "pushed": pushed, "optimised": report.frames}


def _without_card(model: Path, copy: Path) -> Path:
    copy.mkdir(parents=True)
    for path in model.iterdir():
        if path.name != "README.md":
            (copy / path.name).symlink_to(path.absolute())
    return copy
