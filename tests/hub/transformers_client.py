"""Pushes and loads models with transformers: python transformers_client.py ENDPOINT TOKEN HOME."""

# Run by another interpreter, which has what is missing here.
# pyright: reportMissingImports=false
import os
import sys

ENDPOINT, TOKEN = sys.argv[1:3]
os.environ.update(HF_ENDPOINT=ENDPOINT, HF_TOKEN=TOKEN)

import torch  # noqa: E402
from huggingface_hub import HfApi  # noqa: E402
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM  # noqa: E402

torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=4000,
    hidden_size=128,
    intermediate_size=256,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
)
model = LlamaForCausalLM(config).eval()
tokens = torch.randint(0, 4000, (2, 16))

for name, options in (("whole", {}), ("sharded", {"max_shard_size": "2MB"})):
    repo = f"me/{name}"
    model.push_to_hub(repo, **options)
    files = [f for f in HfApi().list_repo_files(repo) if f.endswith(".safetensors")]
    assert (len(files) > 1) == (name == "sharded"), files
    loaded = AutoModelForCausalLM.from_pretrained(repo).eval()
    with torch.no_grad():
        expected, found = model(tokens).logits, loaded(tokens).logits
    assert torch.equal(expected.view(torch.int32), found.view(torch.int32)), name
    print("ok", name, len(files), flush=True)
