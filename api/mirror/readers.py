"""Who may read what is private or gated at the upstream: those whose token it lets read it.

The upstream is asked, and its word holds for a few minutes; for a day where it does not answer.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import UpstreamFailed, UpstreamRefused
from .answers import Answers, api_path

_HOLDS_SECONDS = 300.0
_HOLDS_UNREACHED_SECONDS = 24 * 3600.0
_MOST_VERDICTS = 10_000
_REFUSALS = (401, 403, 404)


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What the upstream said, and when; with no refusal that its token may read."""

    at: float
    refusal: UpstreamRefused | None


class Readers:
    """Asks an upstream who may read guarded repos. Safe to use from several threads."""

    def __init__(self, answers: Answers, *, clock: Callable[[], float] = time.time) -> None:
        self._answers = answers
        self._clock = clock
        self._lock = threading.Lock()
        self._verdicts: OrderedDict[tuple[str, bytes], _Verdict] = OrderedDict()

    def require(self, repo: str, token: str | None) -> None:
        """Raises UpstreamRefused where the upstream does not let a token, or somebody without one,
        read a repo; UpstreamFailed where that cannot be known."""
        key = repo, hashlib.sha256((token or "").encode()).digest()
        now = self._clock()
        with self._lock:
            known = self._verdicts.get(key)
        if known is None or now - known.at >= _HOLDS_SECONDS:
            known = self._ask(repo, token, known, now)
            with self._lock:
                self._verdicts[key] = known
                self._verdicts.move_to_end(key)
                while len(self._verdicts) > _MOST_VERDICTS:
                    self._verdicts.popitem(last=False)
        if known.refusal is not None:
            raise known.refusal

    def _ask(self, repo: str, token: str | None, known: _Verdict | None, now: float) -> _Verdict:
        try:
            return _Verdict(now, self._refusal(repo, token))
        except (UpstreamFailed, UpstreamRefused):
            if known is not None and now - known.at < _HOLDS_UNREACHED_SECONDS:
                return known
            raise

    def _refusal(self, repo: str, token: str | None) -> UpstreamRefused | None:
        # Hubs that lack the first question know of no gates.
        for rest in ("/auth-check", ""):
            try:
                self._answers.reach("GET", api_path(repo, rest), token)
                return None
            except UpstreamRefused as error:
                if error.status not in _REFUSALS:
                    raise
                if error.hub_code is not None or error.status != 404 or not rest:
                    return error
        raise AssertionError("unreachable")
