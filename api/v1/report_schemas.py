"""The JSON of reports (dedup/model/report.py); bytes unless they count something."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ...dedup.model.report import Dimension
from .schemas import ByteCount, LimitsSchema, Schema


class PartnerSchema(Schema):
    """Somebody that frames are shared with."""

    name: str
    bytes: ByteCount = Field(description="of those frames, whole")


class RowSchema(Schema):
    """One line of a breakdown."""

    name: str
    label: str = Field(description="branches of a revision")
    commits: int
    logical: ByteCount | None = Field(description="as plain files; null for dtypes and codecs")
    unique: ByteCount = Field(description="distinct chunks, raw")
    billed: ByteCount = Field(description="own and share: exclusive + attributed")
    exclusive: ByteCount = Field(description="own: frames that it alone reaches")
    shared: ByteCount = Field(description="frames that others reach too, whole")
    attributed: ByteCount = Field(description="share: its part of the shared frames")
    partners: list[PartnerSchema] = Field(description="with whom most is shared; first 20 rows")
    quota: LimitsSchema | None = Field(None, description="of a namespace that has limits")


class BreakdownSchema(Schema):
    """The rows of one dimension, most billed bytes first."""

    by: Dimension
    count: int = Field(description="rows there are in all")
    rows: list[RowSchema]
    others: RowSchema | None = Field(description="what was left out, summed up")


class StagesSchema(Schema):
    """Bytes saved by each stage, in this order: logical - all of them + uploads = frames."""

    files: int = Field(description="whole files stored before")
    inlined: int = Field(description="kept in manifests")
    tensors: int = Field(description="tensor data stored before")
    chunks: int = Field(description="other content stored before")
    coding: int = Field(description="frames coded without a base")
    deltas: int = Field(description="frames coded against a base")
    derivations: int = Field(description="frames computed from others")


class StepSchema(Schema):
    """A bar of the waterfall from logical to stored bytes."""

    name: str
    kind: Literal["total", "saved", "added"]
    start: int
    stop: int
    bytes: int


class MetadataSchema(Schema):
    """What the store holds besides frames."""

    indexes: int = Field(description="of packs")
    sketches: ByteCount
    manifests: ByteCount
    journal: ByteCount
    copies: ByteCount = Field(description="second frames of bases, kept on purpose")
    other: ByteCount
    catalogue: ByteCount | None = Field(description="the database; not part of the store")


class GarbageSchema(Schema):
    """What nothing needs."""

    objects: int
    objects_bytes: ByteCount
    retired: int = Field(description="objects that wait for the end of the grace")
    retired_bytes: ByteCount
    ends: float | None = Field(description="Unix seconds at which the first grace ends")
    grace_seconds: float
    dead_frames: ByteCount = Field(description="in packs that live frames share")


class DaySchema(Schema):
    """The vault on a day."""

    day: str = Field(description="UTC", examples=["2026-12-31"])
    repos: int
    commits: int
    logical: ByteCount
    unique: ByteCount
    frames: ByteCount
    stored: ByteCount | None
    recorded: bool = Field(description="false: worked out from what is stored today")


class TrafficSchema(Schema):
    """What requests and transfers are reckoned from."""

    written: int = Field(description="objects of the last 30 days")
    written_bytes: ByteCount
    files: int = Field(description="files of the commits of the last 30 days")
    files_bytes: ByteCount
    pull_frames: ByteCount = Field(description="read to pull each repo's newest commit once")
    pull_logical: ByteCount = Field(description="files that makes")
    small: list[tuple[int, int, int]] = Field(description="objects below a size: number, bytes")


class ReportSchema(Schema):
    """Where the bytes go. stored = frames + metadata + garbage - missing."""

    at: float = Field(description="Unix seconds")
    repos: int
    commits: int
    files: int
    chunks: int
    logical: ByteCount = Field(description="all files of all commits as plain files")
    distinct_files: ByteCount
    unique: ByteCount = Field(description="distinct chunks, raw")
    frames: ByteCount = Field(description="frames that something needs")
    uploads: ByteCount = Field(description="frames of files that no commit names yet")
    metadata: int
    garbage: ByteCount
    missing: ByteCount = Field(description="packs on record that are not there")
    stored: ByteCount = Field(description="what the object store holds")
    stages: StagesSchema
    waterfall: list[StepSchema]
    metadata_parts: MetadataSchema
    garbage_parts: GarbageSchema
    breakdowns: list[BreakdownSchema]
    growth: list[DaySchema]
    traffic: TrafficSchema | None


class ReasonSchema(Schema):
    """Why bytes stay that a change gives up."""

    why: str
    bytes: ByteCount
    names: list[str]


class PredictionSchema(Schema):
    """What a change and the collections after it would do, the journal aside."""

    change: Literal["rm", "forget", "optimise"]
    subjects: list[str]
    exact: bool
    before: ByteCount = Field(description="stored now")
    after: ByteCount = Field(description="stored then")
    freed: int
    waiting: int = Field(description="part of it that a collection frees without the change")
    written: ByteCount = Field(description="new packs for what is live in mostly dead ones")
    kept: list[ReasonSchema]


class MethodSchema(Schema):
    """One way to store the same files."""

    name: str
    bytes: ByteCount
    seconds: float
    measured: Literal["full", "all files", "sample"]
    note: str


class ComparisonSchema(Schema):
    """What other ways of storing take for the same files."""

    share: float
    seed: int
    files: int
    of_files: int
    logical: ByteCount
    of_logical: ByteCount
    methods: list[MethodSchema]


class BillLineSchema(Schema):
    """What of a month is put down to a namespace or repo; null where it may not be told."""

    name: str
    logical: ByteCount
    unique: ByteCount
    own: ByteCount | None = Field(default=None, description="frames that it alone needs")
    share: ByteCount | None = Field(default=None, description="its part of shared frames")
    billed: ByteCount | None = Field(default=None, description="own and share")
    overhead: int | None = Field(default=None, description="its part of what is no frame")
    charged: int | None = Field(default=None, description="billed and overhead")
    cost: float | None = Field(default=None, description="a month, for what is charged")


class BillSchema(Schema):
    """A month's bill. charged adds up to stored, and the costs of lines to the cost."""

    month: str = Field(examples=["2026-12"])
    recorded: bool = Field(description="false: worked out from what is stored today")
    stored: ByteCount | None = Field(description="of the vault; for who reads every repo")
    cost: float | None = Field(description="of the vault, a month; likewise")
    counted: Literal["stored", "raw"] = Field(description="raw: frames and money are not told")
    currency: str
    storage_class: str
    lines: list[BillLineSchema]
    traffic: TrafficSchema | None = Field(default=None, description="for who reads every repo")
