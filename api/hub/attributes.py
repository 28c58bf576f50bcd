"""Which files are those of git-lfs: what is long or weights, and what .gitattributes say.

Obeyed are lines that set or unset `filter=lfs` for names by their ending (`*.png`), for a name or a
path (`vocab.json`, `a/b.txt`) and for all below a folder (`a/**`). Any other pattern is left to
git; so a look-up of a path takes the same time, however many lines there are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...dedup.local_vault import LocalVault
from ...dedup.model.file_kinds import kind_of
from ...dedup.model.files.manifest import Manifest

ATTRIBUTES = ".gitattributes"
LFS_BYTES = 1 << 20
"""Files from this length on are uploaded by themselves; smaller ones travel in the commit, unless
they are weights: so a model's files are all of one kind."""

_MOST_BYTES = 64 << 10
_MOST_LINES = 1000
_SPECIAL = re.compile(r"[*?\[\]\\!\"]")
# Also in .gitattributes of repos that are made here, so that git and its clients agree with us.
_ENDINGS = (
    "7z arrow bin bz2 ckpt ftz gguf gz h5 joblib keras mlmodel model msgpack npy npz onnx ot "
    "parquet pb pickle pkl pt pth rar safetensors tar tflite tgz wasm xz zip zst"
)
FIRST_ATTRIBUTES = "".join(
    f"*.{ending} filter=lfs diff=lfs merge=lfs -text\n" for ending in _ENDINGS.split()
).encode()
"""The .gitattributes that new repos begin with."""


@dataclass(frozen=True, slots=True)
class LfsRules:
    """What .gitattributes say: whether names of an ending, names, paths and all below folders are
    of git-lfs, with the number of the line that says so; the last one counts."""

    endings: dict[str, tuple[int, bool]]
    names: dict[str, tuple[int, bool]]
    folders: dict[str, tuple[int, bool]]

    def names_lfs(self, path: str) -> bool:
        """Whether they say that a file is one of git-lfs."""
        folder, _, name = path.rpartition("/")
        parts = name.split(".")
        said = [self.names.get(name), self.names.get(path)]
        said += [self.endings.get(".".join(parts[at:])) for at in range(1, len(parts))[-4:]]
        while self.folders and folder:
            said.append(self.folders.get(folder))
            folder = folder.rpartition("/")[0]
        return max((found for found in said if found is not None), default=(0, False))[1]


NO_RULES = LfsRules({}, {}, {})


def is_lfs(path: str, size: int, rules: LfsRules = NO_RULES) -> bool:
    """Says whether a file is one of git-lfs."""
    return size >= LFS_BYTES or (size > 0 and (kind_of(path).is_binary or rules.names_lfs(path)))


def read_rules(vault: LocalVault, manifest: Manifest) -> LfsRules:
    """Returns what the .gitattributes at the root of a revision say."""
    entry = manifest.file(ATTRIBUTES)
    if entry is None or entry.size > _MOST_BYTES:
        return NO_RULES
    known = _known.get(entry.digest)
    if known is None:
        pieces = vault.read_entry(entry, manifest.chunk_bytes, 0, entry.size)
        known = parse_rules(b"".join(map(bytes, pieces)))
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[entry.digest] = known
    return known


# By the digest of the file, as nearly all repos have the same.
_known: dict[bytes, LfsRules] = {}
_MOST_KNOWN = 64


def parse_rules(content: bytes) -> LfsRules:
    """Returns what .gitattributes of unknown origin say."""
    rules = LfsRules({}, {}, {})
    lines = content[:_MOST_BYTES].decode(errors="replace").splitlines()[:_MOST_LINES]
    for number, line in enumerate(lines, 1):
        pattern, *attributes = line.split()[:20] or [""]
        said = [_sets_lfs(each) for each in attributes]
        known = [each for each in said if each is not None]
        if known and not pattern.startswith("#"):
            _add_rule(rules, pattern.removeprefix("/"), (number, known[-1]))
    return rules


def _sets_lfs(attribute: str) -> bool | None:
    if attribute == "filter=lfs":
        return True
    return False if attribute.lstrip("-!").partition("=")[0] == "filter" else None


def _add_rule(rules: LfsRules, pattern: str, said: tuple[int, bool]) -> None:
    plain = pattern.removesuffix("/*").removesuffix("/**")
    if pattern.startswith("*.") and not _SPECIAL.search(pattern[2:]) and "/" not in pattern:
        rules.endings[pattern[2:]] = said
    elif pattern.endswith(("/**", "/**/*")) and not _SPECIAL.search(plain):
        rules.folders[plain] = said
    elif not _SPECIAL.search(pattern):
        rules.names[pattern] = said
