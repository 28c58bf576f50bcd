"""What the endpoints of long work take and answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from ...dedup.similarity.reads_bound import LEAST_READS, MOST_READS
from .schemas import ByteCount, ErrorSchema, Schema


class OptimisedSchema(Schema):
    """What optimising did, or with dry_run would do."""

    families: int = Field(description="looked at")
    changed: int = Field(description="re-encoded")
    chunks: int = Field(description="with new frames")
    before: ByteCount = Field(description="of those chunks' frames")
    after: ByteCount = Field(description="of their new frames; predicted with dry_run")
    freed: int = Field(
        default=0, description="bytes of objects that went for them, less those that came"
    )


class OptimiseJob(BaseModel):
    """Re-encode families where a better base saves bytes."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["optimise"]
    dry_run: bool = Field(default=False, description="only predict")
    max_reads: int | None = Field(
        default=None,
        ge=LEAST_READS,
        le=MOST_READS,
        description="from now on, frames that reading a chunk takes at most; null: as before",
    )


class ComparisonJob(BaseModel):
    """Measure what plain files, whole-file deduplication, zstd, content-defined chunks and
    standalone coding take. Reads and encodes the files: as slow as that is."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["comparison"]
    share: float = Field(default=1.0, gt=0, le=1, description="of the files to read")
    seed: int = Field(default=0, ge=-(1 << 63), lt=1 << 63, description="draws them")


AskedJob = Annotated[OptimiseJob | ComparisonJob, Field(discriminator="kind")]


class JobProgressSchema(Schema):
    """How far a job is."""

    task: str = Field(description='what it is at, such as "comparing"')
    done: int = Field(description="of `total`")
    total: int | None = Field(description="null where nobody knows")
    unit: str | None = Field(description="what is counted; null for bytes")


class JobSchema(Schema):
    """Long work that somebody asked for."""

    id: str
    kind: Literal["optimise", "comparison"]
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    created: float = Field(description="Unix seconds")
    asked: dict[str, JsonValue] = Field(description="as it was asked for")
    progress: JobProgressSchema | None = Field(description="null until it has begun")
    result: dict[str, JsonValue] | None = Field(
        description="once it is done: of optimise the sums of what it did, of a comparison what "
        "each way of storing takes"
    )
    error: ErrorSchema | None = Field(description="why it failed")


def as_json(asked: OptimiseJob | ComparisonJob) -> dict[str, Any]:
    """Returns what was asked for, without its kind."""
    return asked.model_dump(exclude={"kind"}, exclude_none=True)
