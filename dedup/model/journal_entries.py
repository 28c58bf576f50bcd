"""What a journal is made of: its kinds of entries, and the bytes of each (FORMAT.md, Journal)."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from blake3 import blake3

from ...store.backend import check_key
from ...store.catalogue.access.limits import LIMIT_NAMES, Limits
from ...store.catalogue.access.rules import COUNT_NAMES, UNLIMITED, RetentionRules
from ...store.catalogue.files.hashes import HashRow
from ...store.catalogue.tables.entry_keys import EntryKey
from ...store.catalogue.tables.rows import CommitRow
from ...store.catalogue.tokens import EVERYWHERE, ROLES, TokenRow
from ...store.object_keys import JOURNAL, pack_key
from ..errors import Corrupt, VaultError
from .names import check_namespace, check_repo, check_revision, is_commit_id

VERSION = 1
# Of entries of tokens that have roles in several namespaces, or expire: whoever knows neither must
# not take such a token for one that is valid everywhere and for ever.
_ROLES_VERSION = 2
# Of entries of retention: whoever does not know which commits went would take their lack for loss.
_RETENTION_VERSION = 3
_VERSIONS = (VERSION, _ROLES_VERSION, _RETENTION_VERSION)
# Far more than the heads of a journal, or than are lost and settled at once.
_MOST_KEYS = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """A change of refs: a commit, with the hashes of files new with it, or, with no commit, the
    deletion of the repo."""

    repo: str
    created: float
    commit: CommitRow | None = None
    hashes: tuple[HashRow, ...] = ()


@dataclass(frozen=True, slots=True)
class RefChange:
    """A ref was made, moved, or with no target taken away, without a commit of its own. `kind` is
    "branch" or "tag", `target` the id of a commit; a tag may have a message."""

    repo: str
    kind: str
    name: str
    target: str | None
    created: float
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Visibility:
    """A repo became public, or private."""

    repo: str
    public: bool
    created: float


@dataclass(frozen=True, slots=True)
class TokenChange:
    """A token was made, or revoked if `row` says when."""

    row: TokenRow
    created: float


@dataclass(frozen=True, slots=True)
class QuotaChange:
    """A namespace was given limits, in place of those it had; none at all takes them away."""

    namespace: str
    limits: Limits
    created: float


@dataclass(frozen=True, slots=True)
class RetentionChange:
    """A namespace was given rules of retention, in place of those it had; none takes them away."""

    namespace: str
    rules: RetentionRules
    created: float


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Commits of a repo were removed: their ids, each with that of its parent."""

    repo: str
    parents: dict[str, str | None]
    created: float


@dataclass(frozen=True, slots=True)
class Moves:
    """The frames of a pack took the place of those that these chunks had before."""

    pack: str
    chunks: tuple[bytes, ...]
    created: float


@dataclass(frozen=True, slots=True)
class Tombs:
    """Objects that shall disappear (ARCHITECTURE.md, "Collection"). `stage` is "retire" when they
    get their tombstones, "restore" when those are taken away again, "remove" when they go. `by` is
    the identity of the catalogue whose collection it is."""

    stage: str
    keys: tuple[str, ...]
    created: float
    by: str = ""


@dataclass(frozen=True, slots=True)
class Loose:
    """A file was uploaded for a repo (dedup/transfer/uploads.py): its hashes as raw bytes, the
    manifest that has but this file, and for how long it is kept."""

    repo: str
    sha256: bytes
    git_sha1: bytes
    manifest: str
    keep_seconds: float
    created: float

    @property
    def expires(self) -> float:
        """Until when it is kept, Unix seconds."""
        return self.created + self.keep_seconds


Change = RefChange | Visibility | TokenChange | QuotaChange | RetentionChange | Forgotten
AnyEntry = Entry | Moves | Tombs | Loose | Change
STAGES = ("retire", "restore", "remove")


def commit_row(
    repo: str,
    branch: str,
    manifest: str,
    parent: str | None,
    base: str | None,
    *told: str | None,
    oid: str | None = None,
) -> CommitRow:
    """Returns the row of a new commit; `told` are title, message and author. Its id is `oid`, that
    of a commit of elsewhere that it is a copy of, else the hash of what it is made of."""
    created = time.time()
    identity = json.dumps([repo, branch, manifest, parent, base, created, *told])
    oid = oid or blake3(identity.encode()).hexdigest()[:40]
    return CommitRow(oid, repo, branch, parent, manifest, base, created, *told)


def pack_entry(
    entry: AnyEntry, after: Collection[str] = (), lost: Collection[str] = ()
) -> tuple[EntryKey, bytes]:
    """Returns the key and the bytes of an entry. `after` are the keys of the newest entries that
    its writer knows, `lost` those of entries whose loss it settles."""
    outline = _make_outline(entry)
    outline["after"] = [key.removeprefix(JOURNAL) for key in after]
    if lost:
        outline["lost"] = [key.removeprefix(JOURNAL) for key in lost]
    data = json.dumps(outline, separators=(",", ":"), sort_keys=True).encode()
    key = f"{key_at(entry.created)}-{blake3(data).hexdigest()[:16]}"
    return EntryKey(key, describe_entry(entry), after, lost), data


def parse_entry(key: str, data: bytes) -> AnyEntry:
    """Reads an entry; raises Corrupt unless it is one and its key holds its hash."""
    return read_entry(key, data)[1]


def read_entry(key: str, data: bytes) -> tuple[EntryKey, AnyEntry]:
    """As parse_entry; returns the key with what else the entry tells."""
    if not key.endswith("-" + blake3(data).hexdigest()[:16]):
        raise Corrupt(f"journal entry {key} is damaged")
    try:
        outline = json.loads(data)
        if outline["version"] not in _VERSIONS:
            raise VaultError(f"journal entry {key} is too new", "upgrade weightvault")
        entry = _parse_outline(outline)
        after, lost = (_parse_keys(outline.get(name, [])) for name in ("after", "lost"))
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"journal entry {key} is malformed: {error}") from error
    if isinstance(entry, Entry) and entry.commit is not None:
        _check_commit(key, entry.commit)
    return EntryKey(key, describe_entry(entry), after, lost), entry


def describe_entry(entry: AnyEntry) -> str:
    """Says what an entry changes, for people, in a few words."""
    if isinstance(entry, TokenChange):
        did = "made" if entry.row.revoked is None else "revoked"
        return f"token {entry.row.id} ({entry.row.name}) {did}"
    if isinstance(entry, Tombs):
        return f"collection: {entry.stage} {len(entry.keys)} objects"
    if isinstance(entry, Moves):
        return f"frames of {len(entry.chunks)} chunks replaced"
    if isinstance(entry, QuotaChange):
        return f"quota of {entry.namespace}"
    if isinstance(entry, RetentionChange):
        return f"retention of {entry.namespace}"
    if isinstance(entry, Forgotten):
        return f"{len(entry.parents)} commits forgotten of {entry.repo}"
    return f"{_describe_change(entry)} of {entry.repo}"


def _describe_change(entry: Entry | RefChange | Visibility | Loose) -> str:
    if isinstance(entry, Loose):
        return "an upload"
    if isinstance(entry, Visibility):
        return "visibility"
    if isinstance(entry, RefChange):
        return f"{entry.kind} {entry.name}"
    return f"commit {entry.commit.oid[:12]}" if entry.commit else "deletion"


def key_at(seconds: float) -> str:
    """Returns what the keys of entries of a time, in Unix seconds, begin with."""
    return f"{JOURNAL}{round(seconds * 1e6):016x}"


def key_time(key: str) -> float:
    """Returns the time, in Unix seconds, that a key begins with."""
    return int(key.removeprefix(JOURNAL).partition("-")[0], 16) / 1e6


def _make_outline(entry: AnyEntry) -> dict[str, Any]:
    if isinstance(entry, Moves):
        moves = {"pack": entry.pack, "chunks": [digest.hex() for digest in entry.chunks]}
        outline = {"version": VERSION, "created": entry.created, "moves": moves}
    elif isinstance(entry, Loose):
        loose = asdict(entry)
        loose |= {name: loose[name].hex() for name in ("sha256", "git_sha1")}
        outline = {"version": VERSION, "created": loose.pop("created"), "loose": loose}
    elif isinstance(entry, TokenChange):
        outline = _pack_token(entry.row) | {"created": entry.created}
    elif isinstance(entry, QuotaChange):
        limits = {name: most for name, most in asdict(entry.limits).items() if most is not None}
        quota = {"namespace": entry.namespace, **limits}
        outline = {"version": VERSION, "created": entry.created, "quota": quota}
    elif isinstance(entry, RetentionChange | Forgotten):
        outline = _pack_retention(entry)
    elif isinstance(entry, Tombs):
        outline = {"version": VERSION, "created": entry.created, entry.stage: list(entry.keys)}
        outline["by"] = entry.by
    else:
        outline = {"version": VERSION, "repo": entry.repo, "created": entry.created}
        outline |= _pack_change(entry)
    return outline


def _pack_retention(entry: RetentionChange | Forgotten) -> dict[str, Any]:
    outline: dict[str, Any] = {"version": _RETENTION_VERSION, "created": entry.created}
    if isinstance(entry, Forgotten):
        return outline | {"repo": entry.repo, "forget": entry.parents}
    rules = {name: rule for name, rule in asdict(entry.rules).items() if rule not in (None, False)}
    return outline | {"retention": {"namespace": entry.namespace, **rules}}


def _parse_keys(names: Any) -> tuple[str, ...]:
    if not isinstance(names, list) or len(names) > _MOST_KEYS:
        raise ValueError("an entry names other entries in a list")
    return tuple(check_key(JOURNAL + name) for name in names)


def _pack_change(entry: Entry | RefChange | Visibility) -> dict[str, Any]:
    if isinstance(entry, Visibility):
        return {"public": entry.public}
    if isinstance(entry, RefChange):
        named = {"kind": entry.kind, "name": entry.name}
        return {"ref": {**named, "target": entry.target, "message": entry.message}}
    if entry.commit is None:
        return {}
    commit = {name: value for name, value in asdict(entry.commit).items() if value is not None}
    hashes = {h.digest.hex(): [h.sha256.hex(), h.git_sha1.hex()] for h in entry.hashes}
    return {"commit": commit, **({"hashes": hashes} if hashes else {})}


def _parse_outline(outline: dict[str, Any]) -> AnyEntry:
    created = float(outline["created"])
    if "moves" in outline:
        moves = outline["moves"]
        pack_key(moves["pack"])
        return Moves(moves["pack"], tuple(map(bytes.fromhex, moves["chunks"])), created)
    for stage in STAGES:
        if stage in outline:
            keys = tuple(map(check_key, outline[stage]))
            return Tombs(stage, keys, created, str(outline["by"]))
    if "loose" in outline:
        loose = dict(outline["loose"])
        hashes = {name: bytes.fromhex(loose.pop(name)) for name in ("sha256", "git_sha1")}
        return Loose(check_repo(loose.pop("repo")), **hashes, **loose, created=created)
    if "token" in outline:
        return TokenChange(_parse_token(outline["token"]), created)
    if "quota" in outline:
        return _parse_quota(outline["quota"], created)
    if "retention" in outline:
        return _parse_retention(outline["retention"], created)
    return _parse_change(outline, created)


def _parse_change(outline: dict[str, Any], created: float) -> AnyEntry:
    """Reads an entry of one repo."""
    repo = check_repo(outline["repo"])
    if "forget" in outline:
        return Forgotten(repo, _parse_forgotten(outline["forget"]), created)
    if "public" in outline:
        return Visibility(repo, bool(outline["public"]), created)
    if "ref" in outline:
        return RefChange(repo, created=created, **outline["ref"])
    if "commit" not in outline:
        return Entry(repo, created)
    commit = CommitRow(**({"parent": None, "base": None} | outline["commit"]))
    hashes = outline.get("hashes", {}).items()
    rows = (HashRow(bytes.fromhex(d), *map(bytes.fromhex, others)) for d, others in hashes)
    return Entry(repo, created, commit, tuple(rows))


def _pack_token(row: TokenRow) -> dict[str, Any]:
    token = {"id": row.id, "name": row.name, "hash": row.hash.hex()}
    token |= {"created": row.created, "revoked": row.revoked}
    if len(row.roles) != 1 or row.expires is not None:
        token |= {"roles": dict(row.roles), "expires": row.expires}
        return {"version": _ROLES_VERSION, "token": token}
    ((namespace, role),) = row.roles
    token |= {"role": role, "namespace": None if namespace == EVERYWHERE else namespace}
    return {"version": VERSION, "token": token}


def _parse_token(token: dict[str, Any]) -> TokenRow:
    roles = token["roles"] if "roles" in token else {token["namespace"]: token["role"]}
    named = {EVERYWHERE if space in (None, EVERYWHERE) else space: roles[space] for space in roles}
    for namespace, role in named.items():
        if namespace != EVERYWHERE:
            check_namespace(namespace)
        if role not in ROLES:
            raise ValueError(f"a token has the role {role!r}")
    ends = (token.get("revoked"), token.get("expires"))
    if any(end is not None and not isinstance(end, int | float) for end in ends):
        raise ValueError("a token ends at a time")
    digest, ordered = bytes.fromhex(token["hash"]), tuple(sorted(named.items()))
    return TokenRow(
        str(token["id"]), str(token["name"]), digest, ordered, float(token["created"]), *ends
    )


def _parse_quota(quota: dict[str, Any], created: float) -> QuotaChange:
    limits = {name: quota[name] for name in LIMIT_NAMES if quota.get(name) is not None}
    if any(type(most) is not int or most < 0 for most in limits.values()):
        raise ValueError("a limit of a quota is a whole number")
    return QuotaChange(check_namespace(quota["namespace"]), Limits(**limits), created)


def _parse_retention(outline: dict[str, Any], created: float) -> RetentionChange:
    counts = {name: outline[name] for name in COUNT_NAMES if outline.get(name) is not None}
    if any(type(count) is not int or count < UNLIMITED for count in counts.values()):
        raise ValueError("a rule of retention is a whole number")
    within, tagged = outline.get("within_seconds"), outline.get("tagged", False)
    if not isinstance(within, int | float | None) or not isinstance(tagged, bool):
        raise ValueError("a rule of retention is a time, or true or false")
    rules = RetentionRules(**counts, within_seconds=within, tagged=tagged)
    return RetentionChange(check_namespace(outline["namespace"]), rules, created)


def _parse_forgotten(parents: Any) -> dict[str, str | None]:
    ids = (*parents.keys(), *(oid for oid in parents.values() if oid is not None))
    if not all(isinstance(oid, str) and is_commit_id(oid) for oid in ids):
        raise ValueError("what is forgotten are commits, by their ids")
    return dict(parents)


def _check_commit(key: str, commit: CommitRow) -> None:
    check_repo(commit.repo)
    # Not as a new branch: what older versions let in is read all the same.
    check_revision(commit.branch)
    if is_commit_id(commit.branch) or not is_commit_id(commit.oid):
        raise Corrupt(f"journal entry {key} has no commit id")
