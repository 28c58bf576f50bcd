"""Which commits go by which rules, as restic has it; and that nothing goes that must not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import hypothesis.strategies as st
import pytest
from catalogue_rows import read_rows
from hypothesis import given, settings
from models import make_weights, tune, write_model
from upkeep import assert_pulls
from vaults import open_anew, open_local

from weightvault.dedup.errors import Conflict, InvalidInput, VaultError
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.gc import Collector
from weightvault.dedup.maintenance.retention import (
    apply_rules,
    choose_kept,
    find_rules,
    plan_forgetting,
    set_rules,
)
from weightvault.dedup.maintenance.undelete_repo import undelete
from weightvault.dedup.model.journal_entries import (
    Forgotten,
    RetentionChange,
    Visibility,
    pack_entry,
    parse_entry,
)
from weightvault.dedup.repository.refs_state import RepoState, read_state
from weightvault.dedup.transfer.push import push
from weightvault.store.catalogue.access.rules import UNLIMITED, RetentionRules
from weightvault.store.catalogue.tables.rows import CommitRow
from weightvault.store.errors import Superseded


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def commits(times: Sequence[str | float], branch: str = "main") -> list[CommitRow]:
    seconds = [at(t) if isinstance(t, str) else t for t in times]
    return [
        CommitRow(f"{i:040x}", "o/r", branch, f"{i - 1:040x}" if i else None, "0" * 64, None, s)
        for i, s in enumerate(seconds)
    ]


# A commit each Sunday, as in restic's documentation of `forget`, and others.
SUNDAYS = [f"2014-11-{day:02}T12:00" for day in (2, 9, 16, 23, 30)]
HOURS = [f"2014-09-22T08:{minute:02}" for minute in (0, 20, 40)] + ["2014-09-22T10:20"]
YEARS = [f"{year}-{month:02}-15T09:00" for year in (2013, 2014, 2015) for month in (1, 6, 12)]

# times, rules, the positions of what stays. Each worked out by hand from restic's rules: the newest
# of each period that has any, the oldest of all while there are periods left, and what is within.
CASES = [
    (SUNDAYS, RetentionRules(last=1), [4]),
    (SUNDAYS, RetentionRules(last=3), [2, 3, 4]),
    (SUNDAYS, RetentionRules(last=9), [0, 1, 2, 3, 4]),
    (SUNDAYS, RetentionRules(last=UNLIMITED), [0, 1, 2, 3, 4]),
    (SUNDAYS, RetentionRules(daily=4), [1, 2, 3, 4]),
    (SUNDAYS, RetentionRules(weekly=2), [3, 4]),
    (SUNDAYS, RetentionRules(monthly=1), [4]),
    # A month is left to keep, so the oldest stays.
    (SUNDAYS, RetentionRules(monthly=2), [0, 4]),
    (SUNDAYS, RetentionRules(yearly=UNLIMITED), [0, 4]),
    (SUNDAYS, RetentionRules(within_seconds=7 * 86_400), [4]),
    (SUNDAYS, RetentionRules(within_seconds=7 * 86_400 + 1), [3, 4]),
    (SUNDAYS, RetentionRules(tagged=True), []),
    (HOURS, RetentionRules(hourly=1), [3]),
    (HOURS, RetentionRules(hourly=2), [2, 3]),
    (HOURS, RetentionRules(hourly=3), [0, 2, 3]),
    (HOURS, RetentionRules(last=2, daily=1), [2, 3]),
    (HOURS, RetentionRules(daily=2), [0, 3]),
    (YEARS, RetentionRules(yearly=2), [5, 8]),
    (YEARS, RetentionRules(yearly=3), [2, 5, 8]),
    (YEARS, RetentionRules(yearly=4), [0, 2, 5, 8]),
    (YEARS, RetentionRules(monthly=2, yearly=2), [5, 7, 8]),
    # Days of two months that are the same in number, and a week across the turn of the year.
    (["2015-01-05", "2015-02-05"], RetentionRules(daily=1), [1]),
    (["2014-12-29", "2015-01-01", "2015-01-05"], RetentionRules(weekly=1), [2]),
    (["2014-12-28", "2014-12-29", "2015-01-01"], RetentionRules(weekly=1), [2]),
    (["2014-12-28", "2014-12-29", "2015-01-01"], RetentionRules(weekly=2), [0, 2]),
    ([], RetentionRules(last=1), []),
]


@pytest.mark.parametrize(("times", "rules", "stays"), CASES)
def test_rules_keep_what_restic_keeps(times: list[str], rules: RetentionRules, stays: list[int]):
    rows = commits(times)
    kept = [row for row, why in choose_kept(rows, rules) if why]
    assert sorted(int(row.oid, 16) for row in kept) == stays


counts = st.none() | st.integers(1, 6) | st.just(UNLIMITED)
any_rules = st.builds(
    RetentionRules, *[counts] * 6, st.none() | st.floats(1, 1e8), tagged=st.booleans()
)


@given(
    st.lists(st.tuples(st.floats(1e9, 1.4e9), st.sampled_from(["main", "dev"])), max_size=30),
    st.sets(st.integers(0, 29), max_size=4),
    any_rules,
)
@settings(deadline=None)
def test_named_and_newest_commits_always_stay(made, tagged, rules: RetentionRules):
    state = RepoState()
    for number, (created, branch) in enumerate(made):
        oid = f"{number:040x}"
        state.commits[oid] = CommitRow(oid, "o/r", branch, None, "0" * 64, None, created)
        state.refs["branch", branch] = oid, None
    for number in tagged & set(range(len(made))):
        state.refs["tag", f"v{number}"] = f"{number:040x}", None
    plan = plan_forgetting(state, rules)
    # Each commit is decided once, and said to be kept once by each reason.
    assert sorted(row.oid for row, _ in plan) == sorted(state.commits)
    kept = {row.oid: why for row, why in plan if why}
    assert all(len(why) == len(set(why)) for why in kept.values())
    assert {oid for oid, _ in state.refs.values()} <= kept.keys()
    for branch in {branch for _, branch in made} if rules.last else ():
        group = [row for row in state.commits.values() if row.branch == branch]
        assert max(group, key=lambda row: row.created).created in {
            state.commits[oid].created for oid in kept if state.commits[oid].branch == branch
        }
    # What is left is what the rules leave: they ask for no more when asked again.
    left = RepoState({oid: row for oid, row in state.commits.items() if oid in kept}, state.refs)
    assert all(why for _, why in plan_forgetting(left, rules))


# In a vault


def push_series(vault: LocalVault, folder: Path, repo: str, count: int) -> list[str]:
    """Pushes a model `count` times, each a tune of the first; returns the ids."""
    first = make_weights(1, {"w": (64, 48), "v": (48, 48)})
    made = []
    for number in range(count):
        weights = tune(first, number) if number else first
        path = write_model(folder / f"{repo}-{number}".replace("/", "_"), weights)
        made.append(push(vault, path, repo).commit.id)
    return made


def stored(vault: LocalVault) -> int:
    return sum(i.size for i in vault.backend.list() if not i.key.startswith("journal/"))


def test_what_is_said_to_be_freed_is_what_one_collection_frees(
    on_each_database: LocalVault, tmp_path: Path
):
    vault = on_each_database
    made = push_series(vault, tmp_path, "org/run", 6)
    push_series(vault, tmp_path, "org/other", 2)
    before = stored(vault)
    planned = vault.forget("org/run", RetentionRules(last=2), dry_run=True)
    assert len(vault.list_commits("org/run")) == 6
    done = vault.forget("org/run", RetentionRules(last=2))
    assert (done.freed, done.forgotten) == (planned.freed, planned.forgotten)
    assert [commit.id for commit in done.forgotten] == made[3::-1]
    assert [each.commit.id for each in done.kept] == made[:3:-1]
    assert done.freed > 0
    Collector(vault, grace_seconds=0).run()
    assert before - stored(vault) == done.freed
    assert vault.check().problems == ()
    assert vault.forget("org/run", RetentionRules(last=2)).forgotten_count == 0
    assert_pulls(vault, "org/run", tmp_path / "org_run-5", tmp_path / "out")


def test_the_log_goes_on_over_what_was_forgotten(local: LocalVault, tmp_path: Path):
    made = push_series(local, tmp_path, "org/run", 5)
    local.create_tag("org/run", "v1", made[1])
    local.forget("org/run", RetentionRules(tagged=True))
    log = local.list_commits("org/run")
    assert [commit.id for commit in log] == [made[4], made[1]]
    assert [commit.parent for commit in log] == [made[1], None]
    with pytest.raises(VaultError):
        local.resolve("org/run", made[2])


def test_a_rebuilt_catalogue_has_forgotten_too(tmp_path: Path):
    vault = open_local(tmp_path / "vault")
    made = push_series(vault, tmp_path, "org/run", 4)
    vault.record(Visibility("org/run", True, time.time()))
    push_series(vault, tmp_path, "org/gone", 3)
    set_rules(vault, "org", RetentionRules(daily=7, within_seconds=3600.0))
    vault.forget("org/run", RetentionRules(last=1))
    vault.forget("org/gone", RetentionRules(last=1))
    vault.delete_repo("org/gone")
    Collector(vault, grace_seconds=0).run()
    tables = ("repos", "commits", "refs", "retention")
    before = read_rows(vault.catalogue)
    vault.close()
    again = open_anew(tmp_path / "vault")
    after = read_rows(again.catalogue)
    assert [after[name] for name in tables] == [before[name] for name in tables]
    assert [commit.id for commit in again.list_commits("org/run")] == made[3:]
    assert find_rules(again) == {"org": RetentionRules(daily=7, within_seconds=3600.0)}
    again.close()


def test_what_was_forgotten_stays_so_when_a_repo_is_brought_back(local: LocalVault, tmp_path: Path):
    made = push_series(local, tmp_path, "org/run", 4)
    local.create_tag("org/run", "v1", made[0])
    local.forget("org/run", RetentionRules(last=1))
    before = read_state(local.catalogue, "org/run")
    local.delete_repo("org/run")
    assert undelete(local, "org/run").commits == 2
    assert read_state(local.catalogue, "org/run") == before


def test_a_commit_that_got_a_name_meanwhile_stays(local: LocalVault, tmp_path: Path):
    made = push_series(local, tmp_path, "org/run", 3)
    local.create_tag("org/run", "v1", made[0])
    for oid in (made[0], made[2], "f" * 40):
        with pytest.raises((Superseded, Conflict)):
            local.record(Forgotten("org/run", {oid: None}, time.time()))
    assert len(local.list_commits("org/run")) == 3


def test_rules_of_a_namespace_are_applied_to_its_repos(local: LocalVault, tmp_path: Path):
    for repo in ("org/a", "datasets/org/b", "organ/c"):
        push_series(local, tmp_path, repo, 3)
    assert apply_rules(local) == 0
    set_rules(local, "org", RetentionRules(last=1))
    assert apply_rules(local) == 4
    assert apply_rules(local) == 0
    left = {repo.name: len(local.list_commits(repo.name)) for repo in local.list_repos()}
    assert left == {"org/a": 1, "datasets/org/b": 1, "organ/c": 3}
    set_rules(local, "org", RetentionRules())
    assert find_rules(local) == {}


@pytest.mark.parametrize(
    "rules",
    [
        RetentionRules(),
        RetentionRules(last=0),
        RetentionRules(daily=-2),
        RetentionRules(within_seconds=-1.0),
    ],
)
def test_rules_that_cannot_be_are_refused(local: LocalVault, tmp_path: Path, rules):
    push_series(local, tmp_path, "org/run", 2)
    with pytest.raises(InvalidInput):
        local.forget("org/run", rules)
    assert len(local.list_commits("org/run")) == 2


def test_older_programs_refuse_the_entry():
    """Whoever knows no retention would take what was forgotten for lost."""
    for entry in (
        Forgotten("o/r", {"a" * 40: None, "b" * 40: "a" * 40}, 5.0),
        RetentionChange("o", RetentionRules(daily=7, yearly=UNLIMITED, tagged=True), 5.0),
    ):
        key, data = pack_entry(entry)
        assert b'"version":3' in data
        assert parse_entry(key, data) == entry
