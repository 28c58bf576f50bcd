"""What each word of reports, bills and pages means: one number per word, wherever it is shown.

docs/glossary.md has the same table. A word that is no longer here is not to be shown.
"""

from __future__ import annotations

WORDS = {
    "logical": "all files of all commits, as plain files",
    "unique": "distinct chunks, each once, not encoded",
    "frames": "distinct chunks as they are encoded, each once",
    "metadata": "what is stored besides frames for what is live: indexes, manifests, the journal",
    "garbage": "what nothing needs any more, until gc removes it",
    "stored": "all that the object store holds: frames, metadata and garbage",
    "own": "frames that one repo or namespace alone needs: its deletion makes them garbage",
    "shared": "frames that it and others need, counted whole",
    "share": "its part of shared frames: each is split evenly among those that need it",
    "billed": "own and share; over all repos or namespaces they add up to the frames",
    "overhead": "its part of what is stored beyond frames, in proportion to billed",
    "charged": "billed and overhead; over a whole bill they add up to stored",
    "cost": "money a month for what is charged",
    "saved": "money a month that the same files would cost more as plain files",
}
