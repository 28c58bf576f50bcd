"""Loads models of transformers from a vault: python pretrained_client.py URL TOKEN PACKAGES.

PACKAGES is where the interpreter that runs the tests has its packages, weightvault's own needs.
"""

# Run by another interpreter, which has what is missing here.
# pyright: reportMissingImports=false
import os
import site
import sys
import tempfile
from pathlib import Path

URL, TOKEN, PACKAGES = sys.argv[1:4]
os.environ["HF_HUB_OFFLINE"] = "1"
# Behind what this interpreter has.
site.addsitedir(PACKAGES)

import torch  # noqa: E402
from transformers import (  # noqa: E402
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

import weightvault as wv  # noqa: E402

SMALL = {
    "vocab_size": 2000,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
LLAMA = SMALL | {"num_key_value_heads": 2}


def make_models():
    """Yields a name, a model, the classes to load it by, and options of `save_pretrained`."""
    torch.manual_seed(0)
    llama = LlamaForCausalLM(LlamaConfig(**LLAMA))
    kinds = (AutoModelForCausalLM, AutoModel, LlamaForCausalLM)
    yield "whole", llama, kinds, {}
    yield "sharded", llama, kinds, {"max_shard_size": "300kB"}
    tied = LlamaForCausalLM(LlamaConfig(**LLAMA, tie_word_embeddings=True)).bfloat16()
    tied.generation_config = GenerationConfig(temperature=0.5, do_sample=True)
    yield "tied", tied, kinds, {}
    # One whose weights transformers renames, and one whose experts it merges.
    yield "bert", BertForMaskedLM(BertConfig(**SMALL)), (AutoModel, BertForMaskedLM), {}
    experts = MixtralForCausalLM(MixtralConfig(**LLAMA, num_local_experts=4)).half()
    yield "experts", experts, (AutoModelForCausalLM,), {}


def bits(model):
    """The weights of a model, and which share memory."""
    state = model.state_dict(keep_vars=True)
    first = {}
    return {
        name: (
            value.dtype,
            tuple(value.shape),
            value.requires_grad,
            first.setdefault(value.data_ptr(), name),
            value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes(),
        )
        for name, value in state.items()
    }


def settings(model):
    """What a model was told, but where it came from."""
    found = [model.config.to_dict()]
    if model.can_generate():
        found.append(model.generation_config.to_dict())
    return [{k: v for k, v in each.items() if k != "_name_or_path"} for each in found]


WRITTEN = []


def note_written(event, arguments):
    """Keeps the paths of files that are opened to be written to."""
    if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        WRITTEN.append(str(arguments[0]))


sys.addaudithook(note_written)


def check(vault, repo, folder, kind, **options):
    """Loads a model from the vault and from files, and compares all of it."""
    # What transformers makes up for what is missing must be the same, too.
    torch.manual_seed(1)
    wanted = kind.from_pretrained(folder, **options)
    torch.manual_seed(1)
    WRITTEN.clear()
    found = wv.torch.from_pretrained(f"wv://{repo}", kind, vault=vault, **options)
    assert not [path for path in WRITTEN if "safetensors" in path], WRITTEN
    assert type(found) is type(wanted), repo
    assert bits(found) == bits(wanted), (repo, kind)
    assert settings(found) == settings(wanted), (repo, settings(found), settings(wanted))
    assert not found.training
    assert found.name_or_path == f"wv://{repo}"
    tokens = torch.randint(0, 2000, (2, 16))
    with torch.no_grad():
        outputs = [model(tokens)[0].view(torch.uint8) for model in (wanted, found)]
    assert torch.equal(*outputs), repo


with wv.open(URL, token=TOKEN or None) as vault, tempfile.TemporaryDirectory() as scratch:
    for name, model, kinds, options in make_models():
        folder, repo = Path(scratch, name), f"me/{name}"
        model.eval().save_pretrained(folder, **options)
        vault.push(folder, repo)
        shards = list(folder.glob("*.safetensors"))
        assert (len(shards) > 1) == (name == "sharded"), shards
        for kind in kinds:
            check(vault, repo, folder, kind)
        other = torch.float32 if model.dtype == torch.bfloat16 else torch.bfloat16
        check(vault, repo, folder, kinds[0], dtype=other, attn_implementation="eager")
        print("ok", name, flush=True)
    # A revision, a folder of a repo, and a file of another name.
    assert [path for path in WRITTEN if path.endswith("config.json")]
    vault["me/whole"].tag("v1")
    vault.save("me/whole", {"other": torch.zeros(3)})
    assert wv.torch.from_pretrained("wv://me/whole@v1", AutoModel, vault=vault).layers
    nested = Path(scratch, "nested")
    nested.mkdir()
    Path(scratch, "whole").rename(nested / "sub")
    vault.push(nested, "me/nested")
    for address in ("wv://me/nested/sub", "wv://me/nested/sub/model.safetensors"):
        assert wv.torch.from_pretrained(address, AutoModel, vault=vault).layers
    made, report = wv.torch.from_pretrained(
        "wv://me/tied", AutoModel, vault=vault, output_loading_info=True
    )
    assert not report["missing_keys"]
    for address in ("wv://me/nested", "wv://me/none", "wv://me/whole@none"):
        try:
            wv.torch.from_pretrained(address, AutoModel, vault=vault)
        except wv.errors.Missing as error:
            print("refused", error, flush=True)
        else:
            raise AssertionError(address)
print("ok all", flush=True)
