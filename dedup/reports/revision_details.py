"""What the pages about one repo show: files and tensors with what they take, and how.

How a chunk is stored depends on all repos: what others hold is coded against, or stored already. So
`stored` and codecs are for those who may read every repo; with `frames` false they are left out,
and all the rest comes from the manifest alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from ...codecs.frame import CODEC_IDS, CODEC_NAMES
from ...store.catalogue.catalogue import Catalogue
from ...store.catalogue.reports.pages import CodecRow, FrameRow, base_bytes, codecs_of, frames_of
from ..model.files.entries import FileEntry, TensorPlace
from ..model.files.segments import Literal, Share
from ..repository.repository import Repository
from ..vault import Snapshot
from .origins import Origin, find_origins, origin_of

_DERIVED = CODEC_IDS["derived"]


@dataclass(frozen=True, slots=True)
class Listed:
    """A file, or a folder with all below it (`files` > 0): raw bytes, and frame bytes of its
    chunks, each once (None: not told); of a chunk that small files share, its part by size."""

    path: str
    size: int
    stored: int | None
    tensors: int
    files: int = 0


@dataclass(frozen=True, slots=True)
class TensorLine:
    """A tensor: raw bytes, and frame bytes of its chunks, each once (None: not told), with the
    codecs that made them and how many of them are deltas. Of a chunk that several small tensors
    share (`bundled`), `stored` is the tensor's part by size. `origin`: what it is computed from."""

    name: str
    file: str
    dtype: str
    shape: tuple[int, ...]
    size: int
    stored: int | None
    chunks: int
    deltas: int
    bundled: bool
    codecs: tuple[str, ...]
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class CodecShare:
    """What a codec made of a revision: distinct chunks, raw and frame bytes."""

    codec: str
    chunks: int
    raw: int
    stored: int


@dataclass(frozen=True, slots=True)
class DtypeShare:
    """The tensors of a dtype in a revision and their raw bytes, repeated ones counted each time."""

    dtype: str
    tensors: int
    raw: int


@dataclass(frozen=True, slots=True)
class RevisionSums:
    """What a revision takes. `size`: its files. `unique`: its distinct chunks, raw. `stored`: their
    frames (None: not told). `bases`: frames of other revisions that its deltas need beside them."""

    size: int
    unique: int
    stored: int | None
    bases: int
    files: int
    tensors: int
    codecs: tuple[CodecShare, ...]
    dtypes: tuple[DtypeShare, ...]


def sum_revision(catalogue: Catalogue, snapshot: Snapshot, *, frames: bool = True) -> RevisionSums:
    """Adds up a revision."""
    commit, manifest = snapshot.commit, snapshot.manifest
    codecs: list[CodecShare] = []
    bases = 0
    if frames:
        codecs = [_codec_share(row) for row in codecs_of(catalogue, commit.repo, commit.id)]
        bases = base_bytes(catalogue, commit.repo, commit.id)
    dtypes = _sum_dtypes(manifest.files)
    return RevisionSums(
        size=manifest.size,
        unique=sum(manifest.digests().values()),
        stored=sum(share.stored for share in codecs) if frames else None,
        bases=bases,
        files=len(manifest.files),
        tensors=sum(share.tensors for share in dtypes),
        codecs=tuple(codecs),
        dtypes=dtypes,
    )


def list_folder(
    catalogue: Catalogue, snapshot: Snapshot, folder: str = "", *, frames: bool = True
) -> list[Listed]:
    """Returns what lies in `folder`, "" for the top: folders first, then files, by name."""
    prefix = f"{folder}/" if folder else ""
    inside: dict[str, list[FileEntry]] = {}
    for entry in snapshot.manifest.files:
        if entry.path.startswith(prefix):
            head, slash, _ = entry.path[len(prefix) :].partition("/")
            inside.setdefault(prefix + head + slash, []).append(entry)
    entries = [entry for entries in inside.values() for entry in entries]
    found = _frames(catalogue, entries) if frames else None
    listed = [_list(path, entries, found) for path, entries in inside.items()]
    return sorted(listed, key=lambda item: (item.files == 0, item.path))


def describe_file(catalogue: Catalogue, entry: FileEntry, *, frames: bool = True) -> Listed:
    """Returns what one file takes, as list_folder does."""
    return _list(entry.path, [entry], _frames(catalogue, [entry]) if frames else None)


def list_tensors(
    snapshot: Snapshot, file: str | None = None, search: str = ""
) -> list[TensorPlace]:
    """Returns the tensors whose name holds `search`, of one file or of all, in file order."""
    wanted = search.casefold()
    return [
        place
        for entry in snapshot.manifest.files
        if file in (None, entry.path)
        for place in entry.places()
        if wanted in place.tensor.name.casefold()
    ]


def describe_tensors(
    vault: Repository, places: Sequence[TensorPlace], *, frames: bool = True
) -> list[TensorLine]:
    """Returns what each tensor takes; best called with those of one page."""
    if not frames:
        return [_describe(place, None) for place in places]
    found = frames_of(vault.catalogue, {d for place in places for d in place.chunks})
    origins = find_origins(vault, found.values())
    return [_describe(place, found, origins) for place in places]


def split_bytes(entry: FileEntry) -> dict[str, int]:
    """Returns how many bytes of a file are tensors, other chunks, and literals of the manifest."""
    tensors = sum(tensor.size for tensor in entry.tensors)
    literals = sum(s.size for s in entry.segments if isinstance(s, Literal))
    return {"tensors": tensors, "other": entry.size - tensors - literals, "literals": literals}


def _frames(catalogue: Catalogue, entries: Iterable[FileEntry]) -> dict[bytes, FrameRow]:
    digests = {d for entry in entries for s in entry.segments for d in getattr(s, "chunks", ())}
    return frames_of(catalogue, digests)


def _list(
    path: str, entries: Collection[FileEntry], frames: dict[bytes, FrameRow] | None
) -> Listed:
    return Listed(
        path=path.rstrip("/"),
        size=sum(entry.size for entry in entries),
        stored=None if frames is None else _sum_stored(entries, frames),
        tensors=sum(1 for entry in entries for _ in entry.tensors),
        files=len(entries) if path.endswith("/") else 0,
    )


def _sum_stored(entries: Iterable[FileEntry], frames: dict[bytes, FrameRow]) -> int:
    whole: set[bytes] = set()
    shares: set[Share] = set()
    for segment in (segment for entry in entries for segment in entry.segments):
        if isinstance(segment, Share):
            shares.add(segment)
        elif not isinstance(segment, Literal):
            whole.update(segment.chunks)
    stored = sum(frames[digest].frame_bytes for digest in whole if digest in frames)
    parts: defaultdict[bytes, float] = defaultdict(float)
    for share in shares:
        parts[share.chunks[0]] += share.size / share.whole
    return stored + sum(
        round(frames[d].frame_bytes * min(1, part)) for d, part in parts.items() if d in frames
    )


def _describe(
    place: TensorPlace,
    frames: dict[bytes, FrameRow] | None,
    origins: dict[bytes, Origin] | None = None,
) -> TensorLine:
    tensor = place.tensor
    distinct = dict.fromkeys(place.chunks)
    found = [frames[d] for d in distinct if d in frames] if frames is not None else []
    stored = sum(frame.frame_bytes for frame in found) if frames is not None else None
    bundled = not tensor.chunks
    if bundled and stored is not None:
        stored = round(stored * tensor.size / max(1, sum(frame.raw_bytes for frame in found)))
    return TensorLine(
        name=tensor.name,
        file=place.path,
        dtype=tensor.dtype,
        shape=tensor.shape,
        size=tensor.size,
        stored=stored,
        chunks=len(distinct),
        deltas=sum(bool(frame.inputs) and frame.codec != _DERIVED for frame in found),
        bundled=bundled,
        codecs=tuple(sorted({_codec_name(frame.codec) for frame in found})),
        origin=origin_of(found, origins or {}),
    )


def _codec_share(row: CodecRow) -> CodecShare:
    return CodecShare(_codec_name(row.codec), row.chunks, row.raw_bytes, row.frame_bytes)


def _codec_name(codec: int) -> str:
    return CODEC_NAMES.get(codec, f"codec {codec}")


def _sum_dtypes(files: Iterable[FileEntry]) -> tuple[DtypeShare, ...]:
    sums: dict[str, list[int]] = {}
    for entry in files:
        for tensor in entry.tensors:
            sums.setdefault(tensor.dtype, []).append(tensor.size)
    shares = (DtypeShare(name, len(sizes), sum(sizes)) for name, sizes in sums.items())
    return tuple(sorted(shares, key=lambda share: (-share.raw, share.dtype)))
