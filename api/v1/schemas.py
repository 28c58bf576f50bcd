"""The JSON that the server speaks, one class per document; /docs is made from these.

Field names are those of the result classes in dedup.vault, from which the server fills them and
into which the client reads them back.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ..protocol.wire import MAX_DIGESTS, MAX_OFFERS, MAX_SKETCHES

Digest = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-f]{64}$"),
    Field(description="BLAKE3-256 of a chunk's raw bytes, 64 hexadecimal digits"),
]
ByteCount = Annotated[int, Field(ge=0, description="bytes")]


class Schema(BaseModel):
    """Read from the attributes of dedup's result classes."""

    model_config = ConfigDict(from_attributes=True)


class ErrorDetail(Schema):
    """What failed and what to do."""

    code: str = Field(description="stable, for programs", examples=["repo_not_found"])
    message: str = Field(description="what failed, for people")
    hint: str | None = Field(description="what to do next")


class TokenSchema(Schema):
    """A token, without its secret."""

    id: str
    name: str
    roles: dict[str, str] = Field(description="by namespace, `*` for all of them")
    created: float
    revoked: float | None
    expires: float | None
    last_used: float | None


class ErrorSchema(Schema):
    """The body of every response with a status of 400 or more."""

    error: ErrorDetail


class HealthSchema(Schema):
    """Whether object store and catalogue answer: status 200 if both do, 503 if not."""

    status: Literal["ok", "failing"]
    problem: str | None = Field(description="what does not answer, and how")
    version: str = Field(description="of the server")


class DigestsSchema(Schema):
    """The chunks a request is about."""

    digests: Annotated[list[Digest], Field(max_length=MAX_DIGESTS)]


class FramesAskedSchema(DigestsSchema):
    """The chunks whose frames are asked for, and which others the client has."""

    offers: dict[Digest, Annotated[list[Digest], Field(max_length=MAX_OFFERS)]] | None = Field(
        default=None,
        description="by chunk, others that the client has; then frames need nothing but these",
    )


class MissingSchema(Schema):
    """Those of the chunks asked for that the vault holds no frame of."""

    missing: list[Digest]


class SketchSchema(Schema):
    """What bases are looked for by (FORMAT.md, "Sketch")."""

    dtype: str = Field(description="one of FORMAT.md's", examples=["BF16"])
    size: ByteCount = Field(description="raw bytes of the chunk")
    bits: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    words: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2})*$", max_length=1024)]


class SketchesSchema(Schema):
    """The chunks that bases are asked for."""

    sketches: Annotated[list[SketchSchema], Field(max_length=MAX_SKETCHES)]


class CandidateSchema(Schema):
    """A stored chunk that a delta may be made against."""

    digest: Digest
    size: ByteCount = Field(description="raw bytes")
    predicted: ByteCount = Field(description="frame bytes of a delta on it, by the sketches' words")
    repo: str = Field(description="with `revision`, what its frame can be read through")
    revision: str = Field(description="id of a commit")


class BasesSchema(Schema):
    """For each sketch, in the order asked, the candidates, best first."""

    bases: list[list[CandidateSchema]]


class AddedSchema(Schema):
    """How many chunks of the pack were new to the vault."""

    added: int


class CommitSchema(Schema):
    """One immutable state of a repo."""

    id: str = Field(description="40 hexadecimal digits")
    repo: str = Field(examples=["org/name"])
    branch: str
    manifest: str = Field(description="name of the manifest, its BLAKE3-256")
    created: float = Field(description="Unix seconds")
    parent: str | None = Field(None, description="the commit the branch pointed to before")
    base: str | None = Field(None, description="the repo declared as base")
    title: str | None = Field(None, description="what it says of itself, if anything")
    message: str | None = Field(None, description="what it says at greater length")
    author: str | None = Field(None, description="who made it")


class KeptCommitSchema(Schema):
    """A commit that stays."""

    commit: CommitSchema
    reasons: list[str] = Field(description="names of it, and rules", examples=[["tag v1", "daily"]])


class ForgettingSchema(Schema):
    """What rules of retention keep of a repo, and what goes; the newest 1,000 of each."""

    repo: str
    kept: list[KeptCommitSchema]
    kept_count: int
    forgotten: list[CommitSchema]
    forgotten_count: int
    freed: int = Field(description="bytes that collections free by it after the grace")
    counted: Literal["stored", "raw"] = Field(
        description="what freed counts: stored bytes, or, with a token that does not read all "
        "repos, raw bytes of distinct chunks that the repo has in these commits alone"
    )
    dry_run: bool


class RulesSchema(Schema):
    """What commits the repos of a namespace keep; null: no such rule, -1: all."""

    last: int | None
    hourly: int | None
    daily: int | None
    weekly: int | None
    monthly: int | None
    yearly: int | None
    within_seconds: float | None
    tagged: bool


class RetentionSchema(Schema):
    """A namespace with its rules."""

    namespace: str
    rules: RulesSchema


class RepoSummarySchema(Schema):
    """One repo of the list."""

    name: str
    branches: list[str]
    files: int
    size: ByteCount = Field(description="logical bytes of the newest commit")
    updated: float = Field(description="Unix seconds of the newest commit")


class RepoCostSchema(Schema):
    """What one repo takes, all its commits together, in bytes."""

    name: str
    commits: int
    logical: ByteCount = Field(description="its files as plain files")
    unique: ByteCount = Field(description="its distinct chunks, raw")
    exclusive: ByteCount = Field(description="bytes that deleting the repo would free")
    shared: ByteCount = Field(description="bytes that other repos need too")
    counted: Literal["frames", "raw"] = Field(
        "frames",
        description="what exclusive and shared count: stored bytes, or, with a token that does not "
        "read all repos, raw bytes of distinct chunks among those that it reads",
    )


class LimitsSchema(Schema):
    """What a namespace may have at most; null: no limit."""

    stored: int | None = Field(None, description="bytes of distinct chunks, raw")
    logical: int | None = Field(None, description="bytes of distinct files")
    repos: int | None = None
    in_flight: int | None = Field(None, description="bytes sent, or on their way, in no commit")
    requests_per_minute: int | None = Field(None, description="of each server process")
    cpu_seconds_per_minute: int | None = Field(None, description="of checks, of each process")


class UsageSchema(Schema):
    """What the commits of a namespace take, as if it were alone in the vault."""

    stored: ByteCount = Field(description="distinct chunks, raw")
    logical: ByteCount = Field(description="distinct files")
    repos: int


class QuotaSchema(Schema):
    """A namespace with its limits and what it has."""

    namespace: str
    limits: LimitsSchema
    usage: UsageSchema
    in_flight: ByteCount = Field(description="sent, and in no commit yet")


class FileInfoSchema(Schema):
    """One file of a repo's newest commit."""

    path: str
    size: ByteCount
    tensors: int
    blake3: str = Field(description="BLAKE3-256 of the file")


class RefsSchema(Schema):
    """What names the commits of a repo."""

    branches: dict[str, str] = Field(description="the ids of their newest commits, by name")
    tags: dict[str, str] = Field(description="the ids of the commits that they name, by name")


class ComputedSchema(Schema):
    """Tensors of a dtype that are stored as recipes over those of one repo."""

    dtype: str
    repo: str | None = Field(description="whose they are computed from; null if it was deleted")
    source: str | None = Field(description="the tensor that the first is computed from")
    tensors: int
    raw: ByteCount
    stored: ByteCount


class RepoInfoSchema(Schema):
    """A repo: its branches, the files of its newest commit, what it costs."""

    name: str
    branches: dict[str, str] = Field(description="branch to commit id")
    commit: CommitSchema
    files: list[FileInfoSchema]
    cost: RepoCostSchema
    computed: list[ComputedSchema] = Field(description="told to those who may read every repo")


class SegmentsSchema(Schema):
    """What a file is made of, in bytes of each kind of segment."""

    literal: ByteCount
    opaque: ByteCount
    tensors: ByteCount
    chunks: int = Field(description="number of chunks, repeated ones counted each time")


class TensorSchema(Schema):
    """One tensor of a file."""

    name: str
    dtype: str = Field(description="as the file calls it", examples=["BF16"])
    shape: list[int]
    size: ByteCount


class RevisionFileSchema(FileInfoSchema):
    """One file of a revision with what it is made of."""

    segments: SegmentsSchema
    tensor_list: list[TensorSchema] = Field(description="in file order; empty unless asked for")


class RevisionSchema(Schema):
    """A commit and its files."""

    commit: CommitSchema
    files: list[RevisionFileSchema]


class FamilyMemberSchema(Schema):
    """A repo of a family, by its newest commit."""

    repo: str
    raw: ByteCount
    stored: ByteCount
    distance: float = Field(description="mean share of sketch bits that differ from the bases'")
    centres: int = Field(description="chunks that are standalone and came with this repo")
    chunks: int
    computed: int = Field(description="chunks that are recipes over others")
    source: str | None = Field(description="the repo that most is computed from; null if little is")


class FamilySchema(Schema):
    """Repos that share bases; raw and stored bytes count each chunk once."""

    centre: str = Field(description="the repo that holds most of the bases")
    raw: ByteCount
    stored: ByteCount
    members: list[FamilyMemberSchema]


class CheckSchema(Schema):
    """What a check looked at, and a sentence for each problem it found."""

    repos: int
    commits: int
    manifests: int
    packs: int
    chunks: int
    problems: list[str]
