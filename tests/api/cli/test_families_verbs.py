"""families and optimise, on a vault in a folder and through a server."""

import json
from pathlib import Path

import httpx
import pytest
from models import make_weights, tune, write_model

from weightvault.api.client.http_vault import HttpVault
from weightvault.dedup.errors import InvalidInput
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance import optimise
from weightvault.dedup.model.sketch import make_sketch
from weightvault.dedup.similarity.reads_bound import LEAST_READS, MOST_READS
from weightvault.dedup.transfer.push import push

SHAPES = {"a.weight": (96, 64), "b.weight": (64, 64)}


@pytest.fixture
def family(local: LocalVault, tmp_path: Path) -> LocalVault:
    """A vault with a family whose best centre came last."""
    base = make_weights(1, SHAPES)
    models = [*(tune(base, seed, 3e-4) for seed in range(2, 7)), base]
    for i, weights in enumerate(models):
        push(local, write_model(tmp_path / f"m{i}", weights), f"org/m{i}")
    return local


@pytest.fixture(params=["folder", "http"])
def url(request: pytest.FixtureRequest, family: LocalVault, tmp_path: Path) -> str:
    if request.param == "http":
        return request.getfixturevalue("live")
    return str(tmp_path / "served")


def test_families_as_tree_json_and_picture(run, url: str, tmp_path: Path) -> None:
    picture = tmp_path / "families.svg"
    shown = run("--vault", url, "families", "--svg", picture)
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert lines[0].startswith("org/m0: 6 models")
    assert sum(line.startswith("├── ") for line in lines) == 4
    assert lines[-1].startswith("└── org/m")
    assert picture.read_text().count("<circle") == 6
    (found,) = json.loads(run("--vault", url, "--json", "families").stdout)["families"]
    assert found["centre"] == "org/m0"
    assert len(found["members"]) == 6


def test_optimise_says_what_it_saves(run, url: str, family: LocalVault) -> None:
    before = family.report().frames
    dry = json.loads(run("--vault", url, "optimise", "--dry-run", "--json").stdout)
    assert family.report().frames == before
    assert (dry["dry_run"], dry["changed"]) == (True, 2)
    done = json.loads(run("--vault", url, "optimise", "--json").stdout)
    assert done["saved"] == before - family.report().frames > 0
    assert dry["saved"] == pytest.approx(done["saved"], rel=0.5)
    again = run("--vault", url, "optimise")
    assert "nothing to save" in again.stdout
    assert "optimising: 3 of 3 chunks (100.0 %)" in again.stderr


def test_optimise_shows_what_each_bound_of_reads_would_save(run, url: str) -> None:
    bound = ("--vault", url, "optimise", "--max-reads")
    dry = json.loads(run(*bound, "3", "--dry-run", "--json").stdout)
    saved = [dry["by_reads"][str(reads)] for reads in range(LEAST_READS, MOST_READS + 1)]
    assert len(dry["by_reads"]) == len(saved)
    assert saved == sorted(saved)
    assert dry["saved"] == saved[3 - LEAST_READS]
    shown = run(*bound, "3", "--dry-run").stdout
    assert [f"at most {k} frames a chunk: " in shown for k in range(1, 7)] == [0, 1, 1, 1, 1, 0]
    assert run(*bound, "3").exit_code == 0
    for reads in (LEAST_READS - 1, MOST_READS + 1):
        assert f"{LEAST_READS}<=x<={MOST_READS}" in run(*bound, str(reads)).stderr


def test_optimise_shows_each_of_its_steps(
    run, url: str, family: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimise, "STEP_CHUNKS", 1)
    steps = []
    cursor: int | None = 0
    while cursor is not None:
        steps.append(family.optimise(cursor, dry_run=True))
        cursor = steps[-1].cursor
    assert [step.looked for step in steps] == [1, 1, 1, 0]
    shown = run("--vault", url, "optimise").stderr
    assert "optimising: 3 of 3 chunks (100.0 %)" in shown


def test_optimise_goes_on_until_all_is_done(
    run, url: str, family: LocalVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimise, "STEP_BYTES", 1)
    monkeypatch.setattr(optimise, "STEP_CHUNKS", 1)
    done = json.loads(run("--vault", url, "optimise", "--json").stdout)
    assert done["changed"] == 2


def test_a_picture_that_cannot_be_written(run, url: str, tmp_path: Path) -> None:
    shown = run("--vault", url, "families", "--svg", tmp_path / "none" / "f.svg")
    assert shown.exit_code != 0
    assert "cannot write" in shown.stderr


def test_bases_are_the_same_through_a_server(live: str, family: LocalVault) -> None:
    remote = HttpVault(live)
    raws = [make_weights(seed, SHAPES)["a.weight"].tobytes() for seed in (1, 8)]
    raws += [bytes(4096), b""]
    sketches = [make_sketch(raw, "F32") for raw in raws]
    (entry,) = [f for f in family.resolve("org/m5").manifest.files if f.path == "model.safetensors"]
    tensor = next(entry.tensors)
    _, _, pieces = family.read_tensor("org/m5", "main", tensor.name)
    sketches.append(make_sketch(b"".join(pieces), "BF16"))
    expected = family.find_bases(sketches)
    assert [len(found) > 0 for found in expected] == [False, False, False, False, True]
    assert remote.find_bases(sketches) == expected
    assert remote.find_bases([]) == []
    assert remote.list_families() == family.list_families()
    remote.close()


@pytest.mark.parametrize(
    "sketch",
    [
        {"dtype": "F3", "size": 8, "bits": "00" * 32, "words": ""},
        {"dtype": "BF16", "size": 4096, "bits": "00" * 32, "words": "00"},
        {"dtype": "BF16", "size": 0, "bits": "00" * 31, "words": ""},
        {"dtype": "BF16", "size": -1, "bits": "00" * 32, "words": ""},
        {"dtype": "BF16", "size": 0, "bits": "zz" * 32, "words": ""},
        {"dtype": "BF16", "size": 0, "bits": "00" * 32, "words": "00" * 600},
    ],
)
def test_sketches_that_are_none(web: httpx.Client, sketch: dict[str, object]) -> None:
    answer = web.post("/v1/bases", json={"sketches": [sketch]})
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]["code"] in ("invalid_input", "invalid_request")


def test_too_many_sketches(web: httpx.Client) -> None:
    one = {"dtype": "U8", "size": 0, "bits": "00" * 32, "words": ""}
    assert web.post("/v1/bases", json={"sketches": [one] * 501}).status_code == 422


def test_errors_of_sketches_are_those_of_the_vault(live: str) -> None:
    remote = HttpVault(live)
    sound = make_sketch(bytes(range(256)) * 32, "U8")
    broken = type(sound)("U8", sound.size, sound.bits, b"")
    with pytest.raises(InvalidInput):
        remote.find_bases([broken])
    remote.close()


def test_a_push_codes_a_family_anew_that_it_doubles(run, live: str, tmp_path: Path) -> None:
    base = make_weights(1, SHAPES)
    first, *others = (tune(base, seed, 1e-3 if seed == 2 else 1e-4) for seed in range(2, 5))
    for i, weights in enumerate([first, *others, base]):
        folder = write_model(tmp_path / f"m{i}", weights)
        # A server does that itself after a commit (tests/dedup/maintenance/test_recentre.py).
        for vault, saves in ((tmp_path / "vault", i == 3), (live, False)):
            pushed = run("--vault", vault, "--json", "push", folder, f"org/m{i}")
            assert (json.loads(pushed.stdout)["saved"] > 0) == saves
    shown = run("--vault", live, "push", tmp_path / "m3", "org/again")
    assert "anew" not in shown.stdout
