"""Why a test of others fails that is for another hub than this: what it is about is not offered."""

from __future__ import annotations

import re
from dataclasses import dataclass

OPEN = "open"
"""The reason of those that should pass."""

_ABOUT = {
    "buckets": r"bucket",
    "kernels": r"test_kernels",
    "Xet reads": r"_with_xet|test_xet_download",
    "discussions": r"discussion|pull_request_status|merge_pull|_comment|pull_request.*details",
    "jobs and sandboxes": r"/api/jobs|test_jobs|test_sandbox",
    "gated repos": r"gated|access_request|access request",
    "webhooks": r"webhook",
    "spaces": r"[Ss]pace(_|s/|[A-Z ])|/api/spaces/",
    "collections": r"[Cc]ollection",
    "likes, followers, organizations": r"_like|follow|organization|/overview|user_overview"
    r"|test_whoami_with_passing"
    r"|resource_group|[Ee]nterprise|billing",
    "papers and trending": r"paper|trending",
    "inference": r"[Ii]nference",
}

# What we do in another way, by what tests say then.
_DECIDED = {
    "422 Unprocessable": "names that are harmful on Windows are refused",
    "403 Forbidden: making": "new repos are private, so others are told nothing of them",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """A test that failed: its name, what it said, and the other hosts that it asked for."""

    test: str
    said: str
    hosts: tuple[str, ...]


def find_reason(failure: Failure) -> str:
    """Returns why a test fails here, OPEN where nothing but us explains it."""
    for name, pattern in _ABOUT.items():
        if re.search(pattern, failure.test) or re.search(pattern, failure.said):
            return f"not offered: {name}"
    for said, reason in _DECIDED.items():
        if said in failure.said:
            return f"decided otherwise: {reason}"
    if "/fixtures/" in failure.said:
        return "needs a file of the tests that the release lacks"
    if failure.hosts:
        return f"needs {', '.join(failure.hosts[:2])}"
    return OPEN
