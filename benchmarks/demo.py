"""The main job, on real weights: three related models go into a server and come back.

Run by `make demo`. Everything happens in a temporary folder and on a free loopback port.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from .support.servers import running_server, weightvault_command
from .support.weights import disturb_bf16, find_minilm, read_f32, round_to_bf16, write_bf16

# repo, base, what it is
MODELS = (
    ("demo/minilm", None, "all-MiniLM-L6-v2, fp32, as published"),
    ("demo/minilm-bf16", None, "its bf16 rounding"),
    ("demo/minilm-tuned", "demo/minilm-bf16", "simulated fine-tune: bf16 plus small noise"),
)


def main() -> None:
    """Makes the models, pushes, pulls, compares and reports; raises SystemExit on a difference."""
    with tempfile.TemporaryDirectory(prefix="weightvault-demo-") as temporary:
        root = Path(temporary)
        make_models(root / "in")
        with running_server(root / "vault") as server:
            print(f"server at {server.url}, vault in {root / 'vault'}\n")
            for repo, base, what in MODELS:
                print(f"# {repo}: {what}")
                options = ["--base", base] if base else []
                run(server.url, "push", root / "in" / repo, repo, *options)
            print()
            for repo, _, _ in MODELS:
                run(server.url, "pull", repo, root / "out" / repo)
                compare(root / "in" / repo, root / "out" / repo)
            print()
            run(server.url, "report")
        print("\nThe server has stopped; its folder is removed.")


def make_models(folder: Path) -> None:
    """Writes the three models below `folder`."""
    published = find_minilm()
    for repo, _, _ in MODELS:
        shutil.copytree(published, folder / repo, ignore=shutil.ignore_patterns("1_*"))
    fp32 = read_f32(published / "model.safetensors")
    rounded = {name: round_to_bf16(values) for name, values in fp32.items()}
    tuned = {name: disturb_bf16(words, seed) for seed, (name, words) in enumerate(rounded.items())}
    write_bf16(folder / MODELS[1][0] / "model.safetensors", rounded)
    write_bf16(folder / MODELS[2][0] / "model.safetensors", tuned)


def run(url: str, *arguments: object) -> None:
    """Runs one weightvault command against the server, its output shown."""
    shown = [str(a) for a in arguments]
    print("$ weightvault", *(Path(a).name if a.startswith("/") else a for a in shown), flush=True)
    command = [*weightvault_command(), "--vault", url, *shown]
    # The output of this process comes before that of the command.
    subprocess.run(command, check=True)


def compare(sent: Path, received: Path) -> None:
    """Compares the SHA-256 of every file; raises SystemExit where one differs."""
    expected, found = hash_folder(sent), hash_folder(received)
    if expected != found:
        wrong = [name for name in expected if found.get(name) != expected[name]]
        raise SystemExit(f"these files came back with other bytes: {', '.join(wrong)}")
    print(f"  {len(found)} files identical by SHA-256")


def hash_folder(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


if __name__ == "__main__":
    main()
