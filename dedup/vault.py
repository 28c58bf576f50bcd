"""What a vault does, whoever does it: the interface that push, pull and the command line speak.

Two classes implement it: `dedup.local_vault.LocalVault` over an object store and a catalogue, and
`api.client.http_vault.HttpVault` over a server that holds a LocalVault. Every method raises only
the kinds of dedup.errors.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from ..store.catalogue.access.rules import RetentionRules
from .model.bills import MonthBill
from .model.families import Family
from .model.files.manifest import Manifest
from .model.history import Commit, Forgetting
from .model.report import BY_REPO, Comparison, Prediction, Query, RepoCost, Report
from .progress import Progress

if TYPE_CHECKING:
    # Numpy takes 0.1 s to import, which asking for a list need not pay.
    from .model.sketch import Sketch


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A commit with its manifest: all that a pull needs to know before it reads frames. `patched`:
    texts may be stored as patches on those of it."""

    commit: Commit
    manifest: Manifest
    patched: bool = True


@dataclass(frozen=True, slots=True)
class RepoSummary:
    """One line of `ls`: `size` is the logical bytes of the newest commit."""

    name: str
    branches: tuple[str, ...]
    files: int
    size: int
    updated: float


@dataclass(frozen=True, slots=True)
class RefList:
    """The branches and tags of a repo, with the ids of the commits that they name."""

    branches: dict[str, str]
    tags: dict[str, str]


@dataclass(frozen=True, slots=True)
class FileInfo:
    """One file of a revision: bytes, tensors in it, BLAKE3 in hexadecimal."""

    path: str
    size: int
    tensors: int
    blake3: str


@dataclass(frozen=True, slots=True)
class Computed:
    """Tensors of a dtype that are stored as recipes over those of a repo (None: deleted since), how
    many there are, and their raw and frame bytes. `source`: the tensor that the first of them is
    computed from."""

    dtype: str
    repo: str | None
    source: str | None
    tensors: int
    raw: int
    stored: int


def list_files(manifest: Manifest) -> tuple[FileInfo, ...]:
    """Returns the files of a manifest as they are told of."""
    return tuple(
        FileInfo(f.path, f.size, sum(1 for _ in f.tensors), f.digest.hex()) for f in manifest.files
    )


@dataclass(frozen=True, slots=True)
class RepoInfo:
    """What `info` prints: branches with their commit ids, the newest commit's files, cost, and what
    is computed from other repos; nothing of that is told to whoever may not read all repos."""

    name: str
    branches: dict[str, str]
    commit: Commit
    files: tuple[FileInfo, ...]
    cost: RepoCost
    computed: tuple[Computed, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What `check` looked at, and every problem it found: sentences naming what is affected."""

    repos: int
    commits: int
    manifests: int
    packs: int
    chunks: int
    problems: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Candidate:
    """A stored chunk that a new one may be coded against: its digest, its `size` in raw bytes, the
    frame bytes that a delta on it is `predicted` to take, and a repo and the id of a commit of it
    through which `read_frames` gives it."""

    digest: bytes
    size: int
    predicted: int
    repo: str
    revision: str


@dataclass(frozen=True, slots=True)
class Optimised:
    """What `optimise` did, or with a dry run would do.

    `families` were looked at, `changed` of them re-encoded; `chunks` have new frames. `before` and
    `after` are the frame bytes of the changed families, predicted ones in a dry run. `freed` are
    bytes of objects that went for them less those that came: more of them go by a collection.
    """

    families: int = 0
    changed: int = 0
    chunks: int = 0
    before: int = 0
    after: int = 0
    freed: int = 0

    @property
    def saved(self) -> int:
        """Frame bytes that it saved."""
        return self.before - self.after


@dataclass(frozen=True, slots=True)
class OptimiseStep(Optimised):
    """What one step did. `cursor` is what the next one takes, None when there is nothing left. It
    has `looked` at so many chunks, of those that count_centres counts."""

    cursor: int | None = None
    looked: int = 0


class PackSink(Protocol):
    """Takes in packs of frames, and commits that refer to them."""

    def find_missing(self, digests: Collection[bytes]) -> set[bytes]:
        """Returns those of `digests` that the vault holds no frame for."""
        ...

    def check_commit(self, repo: str) -> None:
        """Does nothing where a commit to a repo of that name would be accepted, there or not.
        Raises AccessRefused, so that nothing is sent in vain."""
        ...

    def add_pack(self, path: Path, name: str) -> int:
        """Takes in the pack in the file `path`, whose BLAKE3 is `name`; the file stays there.

        Every frame is decoded and hashed before the vault refers to it. Returns how many of its
        chunks were new. Raises InvalidFrame when anything in it is not what it says.
        """
        ...

    def commit(
        self,
        repo: str,
        branch: str,
        manifest: Manifest,
        *,
        base: str | None = None,
        message: str | None = None,
    ) -> Commit:
        """Makes `manifest` the newest commit of `branch`, creating repo and branch as needed. The
        first line of `message` is the commit's title.

        Returns the present commit unchanged if it has that very manifest. Raises ChunksMissing,
        InvalidName, InvalidManifest.
        """
        ...


class RevisionReader(Protocol):
    """Gives access to revisions: what files they have, and the frames of their chunks."""

    def resolve(self, repo: str, revision: str = "main") -> Snapshot:
        """Returns the commit that a branch or commit id names. Raises Repo-/RevisionNotFound."""
        ...

    def read_frames(self, repo: str, revision: str, digests: Sequence[bytes]) -> Iterator[bytes]:
        """Yields the frames of `digests` in that order.

        Only chunks of that revision and bases of its deltas are given; others raise
        ChunksMissing, whether the vault holds them or not.
        """
        ...


Offers = Mapping[bytes, Sequence[bytes]]
"""By chunk, the digests of others that a client has."""


@runtime_checkable
class FarReader(Protocol):
    """A vault behind a server: what it sends takes its time."""

    @property
    def url(self) -> str:
        """Its address."""
        ...

    def read_offered(
        self, repo: str, revision: str, digests: Sequence[bytes], offers: Offers
    ) -> Iterator[bytes]:
        """Yields the frames of chunks of a revision in that order, each standalone or made from
        chunks that are offered for it. Raises as RevisionReader.read_frames."""
        ...


class RangeReader(RevisionReader, Protocol):
    """Gives access to parts of files, too."""

    def read_range(
        self, repo: str, revision: str, path: str, start: int, stop: int
    ) -> Iterator[bytes | bytearray | memoryview]:
        """Yields the bytes [start, stop) of a file, piece by piece, decoded where the frames are:
        of what is stored only the blocks are read that hold them. Raises EntryNotFound."""
        ...


class BaseFinder(Protocol):
    """Names stored chunks that resemble new ones."""

    def find_bases(self, sketches: Sequence[Sketch]) -> list[tuple[Candidate, ...]]:
        """Returns for each sketch of a new chunk the stored chunks that a delta may be made
        against, best first: found by content, ranked by predicted size.

        Only chunks that whoever asks may read are named.
        """
        ...


class PushTarget(PackSink, RevisionReader, BaseFinder, Protocol):
    """What a push writes to, and reads the bases of deltas from."""


class PushView(PushTarget, Protocol):
    """A vault to push to, which tells where the chunks of a repo may have their bases."""

    def for_owner(self, repo: str) -> PushTarget:
        """Returns the vault as far as bases go for chunks of `repo`: without what the owner of
        that may not read, wherever that is known here."""
        ...


class RepoKeeper(Protocol):
    """Lists, describes and deletes repos."""

    def list_repos(self) -> list[RepoSummary]:
        """Returns all repos by name."""
        ...

    def describe_repo(self, repo: str) -> RepoInfo:
        """Returns a repo's branches, the files of its newest commit and what it costs."""
        ...

    def delete_repo(self, repo: str) -> None:
        """Deletes a repo with all its commits. Raises RepoNotFound."""
        ...

    def rename_repo(self, repo: str, new: str) -> None:
        """Gives a repo another name, with its commits and their ids, branches and tags. Raises
        RepoNotFound, and Conflict where there is a repo of the new name."""
        ...


class RefKeeper(Protocol):
    """Tells what names the commits of a repo, and changes that."""

    def forget(self, repo: str, rules: RetentionRules, *, dry_run: bool = False) -> Forgetting:
        """Removes the commits of a repo that no rule keeps and nothing names; with `dry_run` only
        says which. Raises RepoNotFound, InvalidInput."""
        ...

    def list_refs(self, repo: str) -> RefList:
        """Returns a repo's branches and tags. Raises RepoNotFound."""
        ...

    def list_commits(
        self, repo: str, revision: str = "main", limit: int | None = None
    ) -> list[Commit]:
        """Returns a commit and those before it, newest first, at most `limit`. Raises
        Repo-/RevisionNotFound."""
        ...

    def create_branch(self, repo: str, name: str, revision: str = "main") -> None:
        """Makes a branch at a revision. Raises Conflict if it is there."""
        ...

    def delete_branch(self, repo: str, name: str) -> None:
        """Takes a branch away; its commits stay. Raises RevisionNotFound, and Conflict for the last
        branch and the default one."""
        ...

    def create_tag(
        self, repo: str, name: str, revision: str = "main", message: str | None = None
    ) -> None:
        """Lets a tag name a revision. Raises Conflict if it is there."""
        ...

    def delete_tag(self, repo: str, name: str) -> None:
        """Takes a tag away. Raises RevisionNotFound."""
        ...


class Reports(Protocol):
    """Says where bytes go, and whether all that is referred to is there."""

    def report(self, query: Query = BY_REPO) -> Report:
        """Returns where the bytes go. Raises InvalidInput for a query that cannot be."""
        ...

    def make_bill(
        self, month: str | None = None, by: Literal["namespace", "repo"] = "namespace"
    ) -> MonthBill:
        """Returns what of the bytes stored in a month, `YYYY-MM`, is put down to whom; of this one
        unless told otherwise. Raises InvalidInput."""
        ...

    def predict_removal(self, repos: Sequence[str]) -> Prediction:
        """Returns what deleting `repos`, and collecting after all graces, would free, to the byte.
        Raises RepoNotFound."""
        ...

    def compare(
        self, share: float = 1.0, seed: int = 0, progress: Progress | None = None
    ) -> Comparison:
        """Returns what other ways of storing would take for the files, measured on a `share` of
        them, drawn by `seed`. Reads, decodes and encodes those files: takes its time."""
        ...

    def check(self, progress: Progress | None = None) -> CheckResult:
        """Checks that everything referred to is there; reads no weights and writes nothing."""
        ...

    def list_families(self) -> list[Family]:
        """Returns the families of models, largest first; a model of its own is one."""
        ...


class Optimiser(Protocol):
    """Re-encodes families of models against better bases."""

    def optimise_all(
        self, *, dry_run: bool = False, reads: int | None = None, progress: Progress | None = None
    ) -> Optimised:
        """Re-encodes families where better bases save bytes (ARCHITECTURE.md, "Planning"), and,
        from now on, where reading a chunk takes more than `reads` frames. Beside live traffic, and
        to be stopped at any moment: what was done by then stays. With `dry_run` it only predicts. A
        server does it in the background, and stops with the caller. Raises InvalidInput, and
        Conflict while another run is under way there."""
        ...


@runtime_checkable
class OwnUpkeep(Protocol):
    """A vault without a server, which nobody keeps but those who use it."""

    def recentre(self, repo: str, revision: str, cursor: int = 0) -> OptimiseStep:
        """Does as optimise, but only for families that have doubled with this commit, and only
        where much is saved: what a push does after its commit, so that the store stays near the
        best plan between two runs of optimise. A server does so in the background. Raises
        Repo-/RevisionNotFound."""
        ...

    def derive(self, repo: str, revision: str, manifest: Manifest) -> int:
        """Replaces tensors of a commit that can be computed from others, as quantised and cast
        copies can, by recipes; returns the bytes saved. A server does so in the background.
        `manifest` is that of the commit. Raises Repo-/RevisionNotFound."""
        ...


class Vault(PushView, RangeReader, RepoKeeper, RefKeeper, Reports, Optimiser, Protocol):
    """A place that keeps repos of files and gives back the very bytes it was given."""

    def close(self) -> None:
        """Closes connections and files."""
        ...
