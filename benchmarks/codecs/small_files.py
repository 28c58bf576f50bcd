"""Small files as the tools that save models write them: what a dictionary is trained on.

Configurations come from the library itself (`pip install transformers`, which brings tokenizers);
names of tensors and the rest are facts of formats. Nothing here is anybody's text.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

# Vocabularies are trained on it: only what all of them have in common is to be learnt.
_TEXT = ["the model stores weights", "weights of a model", "store the weights of the model"]

_LLAMA = [
    *(f"self_attn.{part}_proj.weight" for part in "qkvo"),
    *(f"mlp.{part}_proj.weight" for part in ("gate", "up", "down")),
    "input_layernorm.weight",
    "post_attention_layernorm.weight",
]
_BERT = [
    *(f"attention.self.{part}" for part in ("query", "key", "value")),
    "attention.output.dense",
    "attention.output.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
]
_GPT = ["ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"]
_LFS = (
    "7z arrow bin bin.* bz2 ckpt ftz gz h5 joblib lfs.* mlmodel model msgpack npy npz onnx ot "
    "parquet pb pickle pkl pt pth rar safetensors tar tar.* tflite tgz wasm xz zip zst"
)


def make_configs() -> Iterator[tuple[str, bytes]]:
    """Yields the kind of every model that the library knows, and its config.json."""
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    from transformers.models.auto.configuration_auto import (  # pyright: ignore[reportMissingImports]
        CONFIG_MAPPING,
    )

    for kind in sorted(CONFIG_MAPPING):
        try:
            config = CONFIG_MAPPING[kind]()
            whole = config.to_json_string(use_diff=False).encode()
        except Exception:
            # Some need other libraries, or values that have no default.
            continue
        yield kind, config.to_json_string().encode()
        if len(whole) < 20_000:
            yield kind, whole


def make_others() -> Iterator[bytes]:
    """Yields what lies beside config.json: tokenizers, indexes, headers, lists, cards."""
    yield from chain(_tokenizers(), _headers(), _settings(), _plain())


def _tokenizers() -> Iterator[bytes]:
    yield from chain(_byte_pairs(), _word_pieces(), _merged_pieces())


def _byte_pairs() -> Iterator[bytes]:
    """As GPT-2 and its successors have them."""
    from tokenizers import (  # pyright: ignore[reportMissingImports]
        Tokenizer,
        decoders,
        models,
        pre_tokenizers,
        processors,
        trainers,
    )

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.post_processor = processors.ByteLevel(trim_offsets=False)
    bytes_ = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<unk>", "<s>", "</s>", "<pad>"]
    bpe.train_from_iterator(
        _TEXT, trainers.BpeTrainer(initial_alphabet=bytes_, special_tokens=special)
    )
    yield from _save_tokenizer(bpe, eos_token="<|endoftext|>", bos_token="<|endoftext|>")


def _word_pieces() -> Iterator[bytes]:
    """As BERT has them."""
    from tokenizers import (  # pyright: ignore[reportMissingImports]
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )

    words = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    words.normalizer = normalizers.BertNormalizer()
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words.train_from_iterator(_TEXT, trainers.WordPieceTrainer(special_tokens=special))
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    yield from _save_tokenizer(words, **{f"{k}_token": v for k, v in names.items()})


def _merged_pieces() -> Iterator[bytes]:
    """As Llama has them, with bytes to fall back on."""
    from tokenizers import (  # pyright: ignore[reportMissingImports]
        Tokenizer,
        models,
        normalizers,
    )

    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)]
    pieces += [(f"<0x{i:02X}>", 0.0) for i in range(256)]
    merged = Tokenizer(
        models.BPE({piece: i for i, (piece, _) in enumerate(pieces)}, [], byte_fallback=True)
    )
    merged.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    yield from _save_tokenizer(merged, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def _save_tokenizer(tokenizer: Any, **special: str) -> Iterator[bytes]:
    from transformers import PreTrainedTokenizerFast  # pyright: ignore[reportMissingImports]

    with tempfile.TemporaryDirectory() as folder:
        wrapped = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, model_max_length=512, **special
        )
        wrapped.save_pretrained(folder)
        for path in sorted(Path(folder).iterdir()):
            yield path.read_bytes()
    yield _dump(special)
    # As older versions wrote them: in one line.
    yield json.dumps(special).encode()
    older = {"name_or_path": "", "do_basic_tokenize": True, "never_split": None}
    older |= {"tokenize_chinese_chars": True, "strip_accents": None, "model_max_length": 512}
    older |= {"special_tokens_map_file": None, "use_fast": True, "add_prefix_space": False}
    for kind in ("BertTokenizer", "LlamaTokenizer", "GPT2Tokenizer", "PreTrainedTokenizerFast"):
        lower = {"do_lower_case": True, **special}
        yield json.dumps({**lower, **older, "tokenizer_class": kind}).encode()
    parts = ("lstrip", "normalized", "rstrip", "single_word")
    yield _dump(
        {k: {"content": v, **dict.fromkeys(parts, False)} for k, v in special.items()}
        | {"add_prefix_space": False, "clean_up_tokenization_spaces": False}
    )


def _headers() -> Iterator[bytes]:
    """Indexes of sharded models, and the headers of safetensors files."""
    for prefix, parts, suffixes, dtype in (
        ("model.layers", _LLAMA, [""], "BF16"),
        ("bert.encoder.layer", _BERT, [".bias", ".weight"], "F32"),
        ("encoder.layer", _BERT, [".bias", ".weight"], "F32"),
        ("transformer.h", _GPT, [".bias", ".weight"], "F16"),
    ):
        for layers, width in ((6, 384), (12, 768), (32, 4096)):
            names = [f"{prefix}.{i}.{p}{s}" for i in range(layers) for p in parts for s in suffixes]
            shards = {
                name: f"model-{i * 4 // len(names) + 1:05}-of-00004.safetensors"
                for i, name in enumerate(names)
            }
            yield _dump({"metadata": {"total_size": width << 20}, "weight_map": shards})
            item = 4 if dtype == "F32" else 2
            header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
            at = 0
            for name in names:
                shape = [width] if "norm" in name.lower() or "bias" in name else [width, width]
                size = item * width ** len(shape)
                header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
                at += size
            yield json.dumps(header, separators=(",", ":")).encode()


def _settings() -> Iterator[bytes]:
    """The JSON files beside config.json, other than those of tokenizers."""
    yield from chain(_generation(), _sentence_models(), _adapters(), _training(), _images())


def _generation() -> Iterator[bytes]:
    for version in ("4.30.2", "4.41.0", "4.46.3", "4.57.1", "5.1.0"):
        common = {"bos_token_id": 1, "eos_token_id": [2], "transformers_version": version}
        sampled = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.9}
        yield _dump({"_from_model_config": True, **common})
        yield _dump({**common, **sampled, "pad_token_id": 0, "repetition_penalty": 1.05})


def _sentence_models() -> Iterator[bytes]:
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    yield _dump(
        [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(modules)
        ]
    )
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    for width in (384, 768, 1024):
        pooling = {f"pooling_mode_{mode}": mode == "mean_tokens" for mode in modes}
        yield _dump({"word_embedding_dimension": width, **pooling})
    yield _dump({"max_seq_length": 256, "do_lower_case": False})


def _adapters() -> Iterator[bytes]:
    for rank in (8, 16, 64):
        yield _dump(
            {
                "auto_mapping": None,
                "base_model_name_or_path": "",
                "bias": "none",
                "fan_in_fan_out": False,
                "inference_mode": True,
                "init_lora_weights": True,
                "lora_alpha": 2 * rank,
                "lora_dropout": 0.05,
                "modules_to_save": None,
                "peft_type": "LORA",
                "r": rank,
                "rank_pattern": {},
                "target_modules": [f"{part}_proj" for part in "qkvo"],
                "task_type": "CAUSAL_LM",
                "use_dora": False,
                "use_rslora": False,
            }
        )


def _training() -> Iterator[bytes]:
    steps = [
        {"epoch": 0.1 * i, "grad_norm": 1.5 / i, "learning_rate": 2e-05 / i, "loss": 2.0 / i}
        | {"step": 10 * i}
        for i in range(1, 30)
    ]
    yield _dump({"best_metric": None, "best_model_checkpoint": None, "log_history": steps})


def _images() -> Iterator[bytes]:
    yield _dump(
        {
            "crop_size": {"height": 224, "width": 224},
            "do_center_crop": True,
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_processor_type": "CLIPImageProcessor",
            "image_std": [0.26862954, 0.26130258, 0.27577711],
            "resample": 3,
            "rescale_factor": 0.00392156862745098,
            "size": {"shortest_edge": 224},
        }
    )


def _plain() -> Iterator[bytes]:
    yield "".join(f"*.{n} filter=lfs diff=lfs merge=lfs -text\n" for n in _LFS.split()).encode()
    for model_license in ("apache-2.0", "mit", "llama3", "other"):
        yield (
            f"---\nlicense: {model_license}\nlibrary_name: transformers\nlanguage:\n- en\n"
            "base_model: \npipeline_tag: text-generation\ntags:\n- text-generation\n- merge\n"
            "- gguf\n- conversational\n- sentence-transformers\n- feature-extraction\n"
            "- sentence-similarity\n- generated_from_trainer\ndatasets:\nmetrics:\n- accuracy\n"
            "model-index:\n- name: \n  results: []\n---\n\n# \n\n## Usage\n\n```python\n"
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            'tokenizer = AutoTokenizer.from_pretrained("")\n'
            'model = AutoModelForCausalLM.from_pretrained("", torch_dtype="auto", '
            'device_map="auto")\n```\n'
        ).encode()


def _dump(value: Any) -> bytes:
    return json.dumps(value, indent=2, sort_keys=isinstance(value, dict)).encode() + b"\n"
