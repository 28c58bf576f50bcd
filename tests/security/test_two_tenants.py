"""Nothing that a tenant sees depends on what others keep private.

One tenant goes through a fixed list of things that can be done and read. What they are answered,
all of it, is the same with and without a second tenant who does anything in between: with the same
content, with content that is nearly the same, and with cards that name the first one's repos.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any
from urllib.parse import urlsplit

import httpx
import hypothesis.strategies as st
import pytest
from hub_requests import sha256
from hypothesis import HealthCheck, example, given, settings
from starlette.routing import Match
from tenant_steps import ACTIONS, STEPS, Act, alpha_commits, alpha_pushes, more_coding
from tenant_world import STEP_SECONDS, Clock, frozen, open_world

from weightvault.api.requests.access import routes_of

EXAMPLES = int(os.environ.get("WEIGHTVAULT_TEST_TENANT_EXAMPLES", "0"))


class Heard(list[list[Any]]):
    """Answers, step by step; short in messages, where it would be megabytes."""

    def __repr__(self) -> str:
        return f"<{len(self)} steps>"


# What the first tenant does. Each is one step; the second one acts between them.


# What the second tenant does in between.


def transcript(acts: list[Act]) -> Heard:
    """What the first tenant and somebody without a token were answered, step by step."""
    clock, found = Clock(), Heard()
    with frozen(clock), open_world() as world:
        for number, step in enumerate(STEPS):
            for act in acts:
                if act.before == number:
                    act.what(world, act.number, act.repo)
            for tenant in (world.beta, world.nobody):
                tenant.heard.clear()
            clock.now += STEP_SECONDS
            step(world)
            heard = [*world.beta.heard, *world.nobody.heard]
            found.append([normalise(answer) for answer in heard])
    return found


# Drawn at random whatever is stored: the keys of signatures, and the names of Xet addresses.
_DRAWN = re.compile(
    r"(?<=token=)[A-Za-z0-9._%=-]+"
    r"|(?<=Bearer )[A-Za-z0-9._=-]+"
    r"|(?<=/-/xet/)[0-9a-f]{32}"
    r'|(?<="accessToken":")[^"]+'
)
_DRAWN_HEADERS = {"x-xet-access-token", "x-xet-cas-url"}


def normalise(answer: Any) -> list[Any]:
    """An answer without what is drawn at random."""
    headers = {n: "drawn" if n in _DRAWN_HEADERS else v for n, v in answer.headers.items()}
    request = answer.request
    sent = sha256(_DRAWN.sub("drawn", _text_of(request)).encode())
    asked = f"{request.method} {_DRAWN.sub('drawn', str(request.url))} {sent}"
    told = _DRAWN.sub("drawn", answer.content.decode("latin-1"))
    return [asked, answer.status_code, headers, told]


def _text_of(request: Any) -> str:
    """What a request sent; nothing where it went as a stream, whose hash is in the address."""
    try:
        return request.content.decode("latin-1")
    except httpx.RequestNotRead:
        return ""


def first_difference(one: Heard, other: Heard) -> str | None:
    """Where two transcripts part, as text; None where they do not."""
    for number, (left, right) in enumerate(zip(one, other, strict=True)):
        for mine, theirs in zip(left, right, strict=False):
            if mine != theirs:
                return f"step {number} {STEPS[number].__name__}:\n{mine}\n{theirs}"
        if len(left) != len(right):
            return f"step {number} {STEPS[number].__name__}: {len(left)} or {len(right)} answers"
    return None


@pytest.fixture(scope="module")
def alone() -> Heard:
    """The transcript where there is no second tenant."""
    return transcript([])


ACT = st.builds(
    Act,
    st.integers(0, len(STEPS) - 1),
    st.sampled_from(ACTIONS),
    st.integers(0, 7),
    st.sampled_from(["alpha/model", "alpha/r0", "alpha/r1"]),
)
EVERYTHING_FIRST = [Act(0, alpha_pushes, number, f"alpha/r{number}") for number in range(4)] + [
    Act(0, more_coding, 0, ""),
    Act(0, alpha_commits, 1, "alpha/model"),
]
EVERYTHING_BETWEEN = [
    Act(before, what, before, "alpha/model")
    for before in range(0, len(STEPS), 2)
    for what in ACTIONS
]


def test_the_first_tenant_sees_something(alone: Heard):
    """So that equal transcripts say something: most of what was asked was answered."""
    answers = [answer for step in alone for answer in step]
    good = [answer for answer in answers if answer[1] < 300]
    assert len(good) > 200
    assert json.dumps(alone).count("beta/model") > 100


# What answers everybody with the same, or tells of tokens alone.
_TELLS_NOTHING = re.compile(r"static|sign-in|docs|telemetry|locks|harnesses|/v1/tokens")


def test_everything_that_can_be_read_is(alone: Heard):
    """So that no route is added to be forgotten here."""
    asked = [answer[0].split()[:2] for step in alone for answer in step]
    paths = {urlsplit(url).path for method, url in asked if method == "GET"}
    scopes = [
        {"type": "http", "method": "GET", "path": path, "raw_path": path.encode()} for path in paths
    ]
    with open_world() as world:
        routes = [r for r in routes_of(world.app) if "GET" in (getattr(r, "methods", None) or ())]
    for route in routes:
        named = getattr(route, "path", None) or route.pattern
        seen = any(route.matches({**s, "headers": []})[0] is Match.FULL for s in scopes)
        assert seen or _TELLS_NOTHING.search(named), named


@example(EVERYTHING_FIRST)
@example(EVERYTHING_BETWEEN)
@given(acts=st.lists(ACT, max_size=12))
@settings(
    max_examples=EXAMPLES or 1,
    # The same one each time, unless more are asked for.
    derandomize=not EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_what_a_tenant_sees_does_not_depend_on_others(alone: Heard, acts: list[Act]):
    difference = first_difference(alone, transcript(acts))
    # Not the transcripts themselves, which are megabytes.
    if difference is not None:
        pytest.fail(difference)
