"""What reports say, as plain frozen values. Bytes are whole numbers; times are Unix seconds.

What always holds:

    stored = frames + metadata + garbage - missing = what the backend lists
    frames = the sum over all repos of exclusive + attributed
    frames = logical - all of Stages + uploads

A frame is *live* while a commit reaches it, directly or as the base of a delta. It is *exclusive*
to a repo (namespace, revision, format) that alone reaches it. A frame that several reach is split
among them in equal whole bytes; what does not divide goes, a byte each, to the first of them by
name. dtypes and codecs are facts of a frame: each frame has one, and nothing is shared. Files that
were uploaded and that no commit names yet have a row of their own, UPLOADS.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from ...store.catalogue.access.limits import Limits

Dimension = Literal["namespace", "repo", "revision", "format", "dtype", "codec"]
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
UPLOADS = "(uploads)"


@dataclass(frozen=True, slots=True)
class Query:
    """What a report shall hold: breakdowns `by` these, of each the `top` largest rows (None: all),
    and the growth `since` a day, as `YYYY-MM-DD` (None: from the first one)."""

    by: tuple[Dimension, ...] = ("repo",)
    top: int | None = None
    since: str | None = None


BY_REPO = Query()


@dataclass(frozen=True, slots=True)
class Partner:
    """Somebody that frames are shared with, and the bytes of those frames, whole."""

    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a breakdown.

    `name`: the namespace, `namespace/name`, `namespace/name@commit`, format, dtype or codec.
    `logical`: its files as plain files; None for dtypes and codecs, which files have no share of.
    `unique`: its distinct chunks, raw. `exclusive`: frames that it alone reaches, which its
    deletion makes garbage. `shared`: frames that others reach too, whole; `attributed`: its part
    of those. `partners`: with whom most is shared, most first; only in the first 20 rows by
    namespace and repo. `quota`: what a namespace that has limits may have of `unique` and the like.
    `commits`: 0 where that says nothing. `label`: the branches of a revision.
    """

    name: str
    logical: int | None
    unique: int
    exclusive: int
    shared: int
    attributed: int
    commits: int = 0
    label: str = ""
    partners: tuple[Partner, ...] = ()
    quota: Limits | None = None

    @property
    def billed(self) -> int:
        """Frame bytes put down to it; over a whole breakdown they add up to the frames."""
        return self.exclusive + self.attributed


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The rows of one dimension, most billed bytes first. `count` rows there are in all; those
    left out are summed up in `others` (None: none is), whose unique and shared bytes may count
    what its rows share more than once."""

    by: Dimension
    count: int
    rows: tuple[Row, ...]
    others: Row | None = None


@dataclass(frozen=True, slots=True)
class Stages:
    """Bytes saved by each stage, in this order; logical less all of them is the live frames.

    `files`: whole files stored before. `inlined`: bytes too few for a chunk, kept in manifests.
    `tensors`: tensor data stored before, whole tensors or slices of 32 MiB. `chunks`: other bytes,
    cut by their content, stored before. `coding`: frames coded without a base. `deltas`: frames
    coded against one, less the bases that are kept for them alone. `derivations`: frames that are
    computed from others.
    """

    files: int
    inlined: int
    tensors: int
    chunks: int
    coding: int
    deltas: int
    derivations: int


@dataclass(frozen=True, slots=True)
class Metadata:
    """What else the store holds for what is live: indexes of packs, `sketches`, manifests, the
    journal, `copies` of bases that are kept on purpose, and `other` (the marker, uploads of other
    protocols, what repairs keep in quarantine). `catalogue`: the database, which is not part of the
    store; None where its size cannot be told."""

    indexes: int
    sketches: int
    manifests: int
    journal: int
    copies: int
    other: int
    # Not compared: two catalogues of one store say the same in different space.
    catalogue: int | None = field(default=None, compare=False)

    @property
    def total(self) -> int:
        """What of it the store holds."""
        parts = (self.indexes, self.sketches, self.manifests, self.journal, self.copies, self.other)
        return sum(parts)


@dataclass(frozen=True, slots=True)
class Garbage:
    """What nothing needs. `objects`: packs without a live frame, with their sketches, manifests
    without a commit; `objects_bytes`. `retired`: those of them that have a tombstone and wait for
    the end of the grace, which for the first of them `ends` (None: none waits). `dead_frames`:
    bytes in packs that live frames share; they go when enough of their pack is dead.
    """

    objects: int
    objects_bytes: int
    retired: int
    retired_bytes: int
    ends: float | None
    grace_seconds: float
    dead_frames: int

    @property
    def total(self) -> int:
        """All bytes that nothing needs."""
        return self.objects_bytes + self.dead_frames


@dataclass(frozen=True, slots=True)
class Day:
    """The vault on a day (`YYYY-MM-DD`, UTC), by its last record of that day.

    Days before the first record are worked out from what is stored today, by when it was
    committed: `recorded` is false, and `stored` is None, as what was deleted since is missing.
    """

    day: str
    repos: int
    commits: int
    logical: int
    unique: int
    frames: int
    stored: int | None
    recorded: bool


@dataclass(frozen=True, slots=True)
class RepoCost:
    """What one repo takes, all its commits together.

    `logical`: its files as plain files. `unique`: its distinct chunks, raw. `exclusive`: frames
    that only this repo needs, garbage once it is deleted. `shared`: frames it needs and others
    need too, whole, bases of its deltas included.

    Whoever may not read all repos is told of none but those: `counted` is then "raw", and
    `exclusive` and `shared` are raw bytes of distinct chunks, as frames depend on all repos.
    """

    name: str
    commits: int
    logical: int
    unique: int
    exclusive: int
    shared: int
    counted: Literal["frames", "raw"] = "frames"


@dataclass(frozen=True, slots=True)
class Step:
    """A bar of the waterfall: from `start` to `stop` bytes. `kind` is "total" for a bar that stands
    on 0, "saved" for one that goes down, "added" for one that goes up."""

    name: str
    kind: Literal["total", "saved", "added"]
    start: int
    stop: int

    @property
    def bytes(self) -> int:
        """Its height; negative for a stage that costs more than it saves."""
        return self.start - self.stop if self.kind == "saved" else self.stop - self.start


@dataclass(frozen=True, slots=True)
class Traffic:
    """What requests and transfers are reckoned from. `written` objects of `written_bytes` that are
    still there came in the 30 days before, for commits with `files` of `files_bytes`. To pull the
    newest commit of every repo once is to read `pull_frames` bytes from the store, and makes
    `pull_logical` bytes of files. `small`: how many objects there are below 1 KiB, 2 KiB and so on
    up to 1 MiB, and their bytes, each object counted under the first only."""

    written: int
    written_bytes: int
    files: int
    files_bytes: int
    pull_frames: int
    pull_logical: int
    small: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """Where the bytes go, `at` a moment.

    `logical`: all files of all commits as plain files. `distinct_files`: each distinct file once.
    `unique`: each distinct chunk once, raw. `frames`: live frames; `uploads` of them are only
    reached by files that no commit names yet. `stored`: what the object store holds. `missing`:
    packs on record that it does not hold, 0 in a sound vault. Reports are equal that say the same
    of the store; when, and how it grew, may differ.
    """

    at: float = field(compare=False)
    repos: int
    commits: int
    files: int
    chunks: int
    logical: int
    distinct_files: int
    unique: int
    frames: int
    uploads: int
    stored: int
    missing: int
    stages: Stages
    metadata_parts: Metadata
    garbage_parts: Garbage
    breakdowns: tuple[Breakdown, ...] = ()
    growth: tuple[Day, ...] = field(default=(), compare=False)
    # Not compared: a copy of a store is as large but was written at another time.
    traffic: Traffic | None = field(default=None, compare=False)

    @property
    def metadata(self) -> int:
        """What the store holds besides frames for what is live."""
        return self.metadata_parts.total

    @property
    def garbage(self) -> int:
        """What nothing needs."""
        return self.garbage_parts.total

    def breakdown(self, by: Dimension) -> Breakdown:
        """Returns the breakdown by `by`; raises KeyError if the query did not ask for it."""
        for found in self.breakdowns:
            if found.by == by:
                return found
        raise KeyError(by)

    @property
    def by_repo(self) -> tuple[Row, ...]:
        """The rows of the breakdown by repo, most stored first."""
        return self.breakdown("repo").rows

    def waterfall(self) -> Iterator[Step]:
        """Yields the way from logical to stored bytes; each bar begins where the last one ended."""
        yield Step("logical", "total", 0, self.logical)
        level = self.logical
        for name, saved in asdict(self.stages).items():
            yield Step(name, "saved", level, level - saved)
            level -= saved
        more = {"uploads": self.uploads, "metadata": self.metadata, "garbage": self.garbage}
        for name, added in (more | {"missing": -self.missing}).items():
            if added or name not in ("uploads", "missing"):
                yield Step(name, "added", level, level + added)
                level += added
        yield Step("stored", "total", 0, level)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why bytes that a change seems to free stay: a sentence's end, and who is behind it."""

    why: str
    bytes: int
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a change and the collections after it would do to the bytes stored, journal aside.

    `before` are stored now, `after` then. `freed` is the difference; `waiting` of it goes without
    the change, by a collection alone. `written`: new packs, into which a collection moves what is
    live in packs that are mostly dead (counted in `after`). `exact`: by the plan of the collection
    itself, to the byte; else an estimate. `kept`: what stays although the change gives it up.
    """

    change: Literal["rm", "forget", "optimise"]
    subjects: tuple[str, ...]
    exact: bool
    before: int
    after: int
    waiting: int
    written: int
    kept: tuple[Reason, ...] = ()

    @property
    def freed(self) -> int:
        """Bytes that the change and a collection free."""
        return self.before - self.after


@dataclass(frozen=True, slots=True)
class Method:
    """One way to store the same files. `measured`: "full", of all files and without reading them;
    "all files", by reading them all; "sample", by reading a sample. `note`: what exactly."""

    name: str
    bytes: int
    seconds: float
    measured: Literal["full", "all files", "sample"]
    note: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """What other ways of storing take for the same files.

    `share` of the distinct files, drawn by `seed`, were read: `files` of `of_files`, with
    `logical` bytes as plain files. Methods named "full" are about all files instead, of
    `of_logical` bytes.
    """

    share: float
    seed: int
    files: int
    of_files: int
    logical: int
    of_logical: int
    methods: tuple[Method, ...]


def to_json(value: Any) -> dict[str, Any]:
    """Returns any of these values as JSON's types, sums that are properties included."""
    document = asdict(value)
    if isinstance(value, Report):
        document |= {"metadata": value.metadata, "garbage": value.garbage}
        document["waterfall"] = [asdict(s) | {"bytes": s.bytes} for s in value.waterfall()]
        document["breakdowns"] = [_breakdown(b) for b in value.breakdowns]
    elif isinstance(value, Prediction):
        document["freed"] = value.freed
    return document


def _breakdown(found: Breakdown) -> dict[str, Any]:
    rows = [asdict(row) | {"billed": row.billed} for row in found.rows]
    others = found.others and asdict(found.others) | {"billed": found.others.billed}
    return asdict(found) | {"rows": rows, "others": others}
