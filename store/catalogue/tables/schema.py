"""The catalogue's tables. Digests are 32 raw bytes; times are Unix seconds; sizes are bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    func,
    literal_column,
)

from ...packs import DERIVED, STANDALONE
from ...repo_names import RepoName
from .blobs import Blob, Digests

metadata = MetaData()

# SQLite only counts up by itself in a column of exactly INTEGER type.
_Id = BigInteger().with_variant(Integer, "sqlite")
_Digest = Blob(32)


def _part(part: str) -> Callable[[Any], str]:
    """Returns what takes that part of a row's name, where it is added."""
    return lambda context: getattr(RepoName.of(context.get_current_parameters()["name"]), part)


# Columns by which sketches are searched (store/catalogue/sketches/sketches.py).
BANDS = 16

packs = Table(
    "packs",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("bytes", BigInteger, nullable=False),
    Column("frame_bytes", BigInteger, nullable=False),
)

# Where each digest lives. `inputs` are the digests of what the frame needs, in the frame's order,
# `level` is STANDALONE, that of a delta, or DERIVED (store/packs.py). Only store/catalogue/edges.py
# asks for either (ARCHITECTURE.md, "Edges").
chunks = Table(
    "chunks",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("digest", _Digest, nullable=False, unique=True),
    Column("pack_id", ForeignKey("packs.id"), nullable=False, index=True),
    Column("offset", BigInteger, nullable=False),
    Column("frame_bytes", BigInteger, nullable=False),
    Column("raw_bytes", BigInteger, nullable=False),
    Column("codec", SmallInteger, nullable=False),
    Column("inputs", Digests, nullable=True),
    # As the frame names it. NULL where a catalogue from before it was kept does not know.
    Column("dtype", SmallInteger, nullable=True),
    Column("level", SmallInteger, nullable=False, server_default="0"),
)
_derived = chunks.c.level == literal_column(str(DERIVED))
Index("chunks_derived", chunks.c.level, sqlite_where=_derived, postgresql_where=_derived)
_standalone = chunks.c.level == literal_column(str(STANDALONE))
Index("chunks_standalone", chunks.c.id, sqlite_where=_standalone, postgresql_where=_standalone)

# The inputs of the frames in use once more, for look-ups both ways. Rows may arrive before their
# input's row when a catalogue is rebuilt pack by pack, so `input` is a digest and no foreign key.
chunk_inputs = Table(
    "chunk_inputs",
    metadata,
    Column("chunk_id", ForeignKey("chunks.id", ondelete="CASCADE"), primary_key=True),
    Column("position", SmallInteger, primary_key=True),
    Column("input", _Digest, nullable=False, index=True),
    sqlite_with_rowid=False,
)

# Frames of chunks that have another one in `chunks`: written at the same time by somebody else, or
# left behind when a chunk was re-encoded. One of a lower level is what an input returns to when a
# frame on it arrives that its frame in use has too high a level for.
spares = Table(
    "spares",
    metadata,
    Column("pack_id", ForeignKey("packs.id"), primary_key=True),
    Column("offset", BigInteger, primary_key=True),
    Column("chunk_id", ForeignKey("chunks.id"), nullable=False, index=True),
    Column("frame_bytes", BigInteger, nullable=False),
    Column("codec", SmallInteger, nullable=False),
    Column("inputs", Digests, nullable=True),
    Column("dtype", SmallInteger, nullable=True),
    Column("level", SmallInteger, nullable=False, server_default="0"),
)

# What is known of a chunk's content (FORMAT.md, "Sketch"). `kind` is NULL where nothing can be
# said. The bands are pieces of `bits` to search by; they are NULL unless the chunk is standalone,
# and their indexes hold only the others: thousands of deltas on one base cost the search nothing.
sketches = Table(
    "sketches",
    metadata,
    Column("chunk_id", ForeignKey("chunks.id"), primary_key=True),
    Column("kind", SmallInteger, nullable=True),
    Column("dtype", SmallInteger, nullable=False),
    Column("raw_bytes", BigInteger, nullable=False),
    Column("bits", Blob(32), nullable=False),
    Column("words", Blob, nullable=False),
    # Fingerprint of the family when it was last planned around this chunk.
    Column("planned", BigInteger, nullable=True),
    *(Column(f"band{i}", Integer, nullable=True) for i in range(BANDS)),
)
for _band in (sketches.c[f"band{i}"] for i in range(BANDS)):
    _filled = _band.is_not(None)
    Index(
        f"sketches_{_band.name}",
        _band,
        sqlite_where=_filled,
        postgresql_where=_filled,
        # So that a search reads the indexes alone (SQLite's hold the row's id anyway).
        postgresql_include=["chunk_id"],
    )

repos = Table(
    "repos",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("name", String(200), nullable=False, unique=True),
    # Whether those without a token may read it, where the server lets them read public repos.
    Column("public", Boolean, nullable=False, server_default=false()),
    # The parts of the name that lists go by: RepoName.prefix and .namespace.
    Column("kind", String(20), nullable=False, server_default="", default=_part("prefix")),
    Column("namespace", String(200), nullable=False, server_default="", default=_part("namespace")),
    # The newest commit that a branch names, kept by store/catalogue/refs.py; NULL where none does.
    Column("newest", BigInteger, nullable=True, index=True),
    # How often its branches changed, and at which of these counts it was last looked into for what
    # lists select by (fact_schema.py). A rebuilt catalogue looks into all of them again.
    Column("branch_changes", Integer, nullable=False, server_default="0"),
    Column("described", Integer, nullable=False, server_default="-1"),
)
_undescribed = repos.c.described != repos.c.branch_changes
Index("repos_by_folded_name", func.lower(repos.c.name))
Index("repos_undescribed", repos.c.id, sqlite_where=_undescribed, postgresql_where=_undescribed)
for _order in (repos.c.name, repos.c.newest):
    Index(f"repos_of_kind_by_{_order.name}", repos.c.kind, _order)
    Index(f"repos_of_namespace_by_{_order.name}", repos.c.namespace, _order)
    _seen = repos.c.public
    Index(f"public_repos_by_{_order.name}", _order, sqlite_where=_seen, postgresql_where=_seen)

commits = Table(
    "commits",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("repo_id", ForeignKey("repos.id", ondelete="CASCADE"), nullable=False),
    Column("oid", String(40), nullable=False),
    Column("branch", String(255), nullable=False),
    Column("parent", String(40), nullable=True),
    Column("manifest", String(64), nullable=False, index=True),
    Column("base", String(200), nullable=True, index=True),
    Column("created", Float, nullable=False),
    Column("title", Text, nullable=True),
    Column("message", Text, nullable=True),
    Column("author", Text, nullable=True),
    UniqueConstraint("repo_id", "oid"),
    Index("commits_of_repo", "repo_id", "id"),
)

refs = Table(
    "refs",
    metadata,
    Column("repo_id", ForeignKey("repos.id", ondelete="CASCADE"), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("commit_id", ForeignKey("commits.id", ondelete="CASCADE"), nullable=False, index=True),
)

tags = Table(
    "tags",
    metadata,
    Column("repo_id", ForeignKey("repos.id", ondelete="CASCADE"), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("commit_id", ForeignKey("commits.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("message", Text, nullable=True),
)

# `recipe` identifies the segments a file is made of: a (digest, recipe) pair that is here was
# decoded and hashed once and need not be again.
files = Table(
    "files",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("commit_id", ForeignKey("commits.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("path", String(1024), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("digest", _Digest, nullable=False),
    Column("recipe", _Digest, nullable=False),
    Column("tensors", Integer, nullable=False),
    # For reports: a number for the format, as the name has it, and how many of the bytes are those
    # of tensors, and how many the manifest keeps. All 0 where an older catalogue does not know.
    Column("format", SmallInteger, nullable=False, server_default="0"),
    Column("tensor_bytes", BigInteger, nullable=False, server_default="0"),
    Column("inlined_bytes", BigInteger, nullable=False, server_default="0"),
    Index("files_digest_recipe", "digest", "recipe"),
)

# `uses`: bit 0 if a tensor of the commit has the chunk, bit n if a file of format n does.
commit_chunks = Table(
    "commit_chunks",
    metadata,
    Column("commit_id", ForeignKey("commits.id", ondelete="CASCADE"), primary_key=True),
    Column("chunk_id", ForeignKey("chunks.id"), primary_key=True, index=True),
    Column("uses", Integer, nullable=False, server_default="0"),
)

# By what names other systems know a file: its BLAKE3-256, SHA-256 and hash as a git blob.
hashes = Table(
    "hashes",
    metadata,
    Column("digest", _Digest, primary_key=True),
    Column("sha256", _Digest, nullable=False, index=True),
    Column("git_sha1", Blob(20), nullable=False),
)

# Files uploaded for a repo that no commit need name (dedup/transfer/uploads.py). Their chunks are
# kept until `expires`; `manifest` is one that has but this file.
loose_files = Table(
    "loose_files",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("sha256", _Digest, nullable=False),
    Column("repo", String(200), nullable=False),
    Column("digest", _Digest, nullable=False, index=True),
    Column("recipe", _Digest, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("manifest", String(64), nullable=False, index=True),
    Column("expires", Float, nullable=False),
    UniqueConstraint("sha256", "repo"),
)

loose_chunks = Table(
    "loose_chunks",
    metadata,
    Column("loose_id", ForeignKey("loose_files.id", ondelete="CASCADE"), primary_key=True),
    Column("chunk_id", ForeignKey("chunks.id"), primary_key=True, index=True),
)

# Chunks stored as they came, which wait to be coded (dedup/maintenance/background_encode.py);
# `claimed` is until when somebody is at it.
uncoded = Table(
    "uncoded",
    metadata,
    Column("chunk_id", ForeignKey("chunks.id", ondelete="CASCADE"), primary_key=True),
    Column("claimed", Float, nullable=False),
    Index("uncoded_claimed", "claimed", "chunk_id"),
)

# Chunks that somebody limited to a namespace has sent and no commit there has yet: a commit may
# name what was sent for it, as knowing a digest opens nothing (dedup/transfer/namespaced_vault.py).
received = Table(
    "received",
    metadata,
    Column("namespace", String(100), primary_key=True),
    Column("chunk_id", ForeignKey("chunks.id", ondelete="CASCADE"), primary_key=True, index=True),
    Column("at", Float, nullable=False, index=True),
)

# What a namespace may take and use at most (store/catalogue/access/quotas.py); NULL: as much as it
# likes. `used_…` are what its commits take now, NULL where that is to be recomputed. `entry` is
# the key of the journal entry that set the limits; where they were taken away, all are NULL.
quotas = Table(
    "quotas",
    metadata,
    Column("namespace", String(100), primary_key=True),
    Column("stored", BigInteger, nullable=True),
    Column("logical", BigInteger, nullable=True),
    Column("repos", Integer, nullable=True),
    Column("in_flight", BigInteger, nullable=True),
    Column("requests_per_minute", Integer, nullable=True),
    Column("cpu_seconds_per_minute", Integer, nullable=True),
    Column("entry", String(120), nullable=False),
    Column("used_stored", BigInteger, nullable=True),
    Column("used_logical", BigInteger, nullable=True),
    Column("used_repos", Integer, nullable=True),
)

# Which commits the repos of a namespace keep (store/catalogue/access/retention.py). `entry` is as
# that of `quotas`; where the rules were taken away, all are NULL and false.
retention = Table(
    "retention",
    metadata,
    Column("namespace", String(100), primary_key=True),
    Column("last", Integer, nullable=True),
    Column("hourly", Integer, nullable=True),
    Column("daily", Integer, nullable=True),
    Column("weekly", Integer, nullable=True),
    Column("monthly", Integer, nullable=True),
    Column("yearly", Integer, nullable=True),
    Column("within_seconds", Float, nullable=True),
    Column("tagged", Boolean, nullable=False, server_default=false()),
    Column("entry", String(120), nullable=False),
)

# Which journal entries this catalogue has taken in, and in a few words what each is `about`. One
# that is `lost` is gone from the store, which is settled.
journal = Table(
    "journal",
    metadata,
    Column("key", String(120), primary_key=True),
    Column("about", String(200)),
    Column("lost", Boolean, nullable=False, server_default=false()),
)

# Which entries each entry names as the newest that its writer knew (lost_entries.py).
journal_edges = Table(
    "journal_edges",
    metadata,
    Column("key", String(120), primary_key=True),
    Column("after", String(120), primary_key=True, index=True),
)

# Objects that shall disappear (ARCHITECTURE.md, "Collection"): packs and manifests by their key.
# `since` is when nothing was seen to need them, `removed` when their rows went and their deletion
# began; `foreign` tells that another catalogue of the same store is at it.
tombstones = Table(
    "tombstones",
    metadata,
    Column("key", String(120), primary_key=True),
    Column("since", Float, nullable=False),
    Column("removed", Float, nullable=True),
    Column("foreign", Boolean, nullable=False),
)

# Frames that a scrub found damaged, or whose pack is gone, until they are repaired. A chunk whose
# frame in use is here counts as missing, so that whoever has it can push it again.
damage = Table(
    "damage",
    metadata,
    Column("pack_id", ForeignKey("packs.id", ondelete="CASCADE"), primary_key=True),
    Column("offset", BigInteger, primary_key=True),
    Column("digest", _Digest, nullable=False, index=True),
    Column("reason", String(300), nullable=False),
    Column("found", Float, nullable=False),
)

# When every byte of a pack was last read and found right.
verified = Table(
    "verified",
    metadata,
    Column("pack_id", ForeignKey("packs.id", ondelete="CASCADE"), primary_key=True),
    Column("at", Float, nullable=False),
)

# What the vault came to on a day (UTC), by the last record of that day.
days = Table(
    "days",
    metadata,
    Column("day", String(10), primary_key=True),
    Column("at", Float, nullable=False),
    Column("repos", Integer, nullable=False),
    Column("commits", Integer, nullable=False),
    Column("logical", BigInteger, nullable=False),
    Column("unique", BigInteger, nullable=False),
    Column("frames", BigInteger, nullable=False),
    Column("stored", BigInteger, nullable=False),
)

# One row per fact about the catalogue itself, such as its schema version.
settings = Table(
    "settings",
    metadata,
    Column("name", String(60), primary_key=True),
    Column("value", String(200), nullable=False),
)
