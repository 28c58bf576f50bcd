"""Planning: as good as trying every plan, wherever every plan can be tried."""

from itertools import combinations, product

import numpy as np
import pytest
from models import to_bf16

from weightvault.codecs.pipeline import encode_tensor
from weightvault.dedup.model.inputs import CHAIN_LENGTH
from weightvault.dedup.model.sketch import make_sketch
from weightvault.dedup.similarity.family_plan import Member, choose_centres, plan_family
from weightvault.dedup.similarity.size_prediction import predict_alone, predict_deltas
from weightvault.dedup.similarity.tree_plan import grow_trees, levels_of


def best_by_trying(deltas: np.ndarray, alone: np.ndarray) -> float:
    count = len(alone)
    plans = (list(c) for size in range(1, count + 1) for c in combinations(range(count), size))
    return min(alone[p].sum() + deltas[:, p].min(1).sum() for p in plans)


def random_family(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Sizes as points on a plane have them: a delta costs the distance, and a little more."""
    points = rng.normal(0, 1, (count, 2)) + rng.choice(3, count)[:, None] * rng.uniform(0, 4)
    deltas = 10 + 20 * np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(deltas, 0)
    return deltas, rng.uniform(60, 70, count)


def test_plans_are_as_good_as_trying_all():
    rng = np.random.default_rng(1)
    losses = []
    for _ in range(150):
        deltas, alone = random_family(rng, int(rng.integers(2, 9)))
        chosen = sorted(choose_centres(deltas, alone, {0}, set()))
        cost = alone[chosen].sum() + deltas[:, chosen].min(1).sum()
        losses.append(cost / best_by_trying(deltas, alone) - 1)
    assert np.mean(losses) < 0.001
    assert max(losses) < 0.05


def test_kept_centres_stay():
    deltas, alone = random_family(np.random.default_rng(2), 6)
    assert choose_centres(deltas, alone, {0}, {0, 3}) >= {0, 3}


def best_tree(deltas: np.ndarray, alone: np.ndarray, length: int) -> float:
    """What the best of all trees with chains of at most `length` takes, by trying them."""
    count = len(alone)
    best = np.inf
    for parents in product(range(-1, count), repeat=count):
        if any(parent == i for i, parent in enumerate(parents)):
            continue
        above, depth = list(parents), 0
        while any(p >= 0 for p in above) and depth <= count:
            above, depth = [-1 if p < 0 else parents[p] for p in above], depth + 1
        if depth <= min(length, count - 1):
            costs = (alone[i] if p < 0 else deltas[i, p] for i, p in enumerate(parents))
            best = min(best, sum(costs))
    return best


def test_trees_are_nearly_as_good_as_trying_all():
    rng = np.random.default_rng(7)
    losses = []
    for _ in range(20):
        deltas, alone = random_family(rng, int(rng.integers(3, 6)))
        count, length = len(alone), int(rng.integers(1, 4))
        chosen = choose_centres(deltas, alone, {0}, set())
        star: list[int | None] = []
        for i in range(count):
            near = min(chosen, key=lambda j, i=i: deltas[i, j])
            star.append(None if i in chosen else near)
        bases = grow_trees(deltas, alone, range(count), star, [length] * count)
        costs = [alone[i] if b is None else deltas[i, b] for i, b in enumerate(bases)]
        losses.append(sum(costs) / best_tree(deltas, alone, length) - 1)
    assert np.mean(losses) < 0.02
    assert max(losses) < 0.12


def test_a_run_of_checkpoints_becomes_short_chains():
    """Each is as far from another as there are steps between them."""
    steps = np.arange(21)
    deltas = 60 * np.sqrt(abs(steps[:, None] - steps[None])).astype(float)
    star = [0 if i else None for i in steps]
    bases = grow_trees(deltas, np.full(21, 400.0), steps.tolist(), star, [4] * 21)
    levels = levels_of(np.array([-1 if b is None else b for b in bases]))
    assert levels.max() <= 4
    taken = sum(400 if b is None else deltas[i, b] for i, b in enumerate(bases))
    assert taken < 0.6 * (400 + deltas[:, 0].sum())


def bf16(values: np.ndarray) -> bytes:
    return to_bf16(values).tobytes()


def star(scale: float, count: int = 6) -> list[bytes]:
    """A tensor and `count` updates of it."""
    rng = np.random.default_rng(3)
    base = rng.normal(0, 0.05, 8192)
    return [bf16(base), *(bf16(base + rng.normal(0, scale, 8192)) for _ in range(count))]


def test_the_middle_becomes_the_centre():
    raws = star(1e-4)
    first = raws[1]
    sizes = [len(encode_tensor(r, "BF16", base=first)) for r in raws]
    sizes[1] = len(encode_tensor(first, "BF16"))
    bases = [None if i == 1 else 1 for i in range(len(raws))]
    sketches = [make_sketch(r, "BF16") for r in raws]
    members = [Member(s, n, b) for s, n, b in zip(sketches, sizes, bases, strict=True)]
    plan = plan_family(members)
    assert plan.bases == (None, *[0] * (len(raws) - 1))
    assert plan.before == sum(sizes)
    real = len(encode_tensor(raws[0], "BF16"))
    real += sum(len(encode_tensor(r, "BF16", base=raws[0])) for r in raws[1:])
    assert plan.after == pytest.approx(real, rel=0.05)


def test_a_fixed_centre_stands_alone_in_every_plan():
    raws = star(1e-4)
    members = [
        Member(make_sketch(r, "BF16"), 5000, 1 if i != 1 else None) for i, r in enumerate(raws)
    ]
    members[1] = Member(members[1].sketch, 11000, None, fixed=True)
    assert plan_family(members).bases[1] is None


def test_a_good_plan_is_left_alone():
    raws = star(1e-4)
    sizes = [len(encode_tensor(r, "BF16", base=raws[0])) for r in raws]
    sizes[0] = len(encode_tensor(raws[0], "BF16"))
    members = [
        Member(make_sketch(r, "BF16"), n, 0 if i else None)
        for i, (r, n) in enumerate(zip(raws, sizes, strict=True))
    ]
    plan = plan_family(members)
    assert (plan.after, plan.bases) == (plan.before, (None, *[0] * (len(raws) - 1)))


def test_chains_are_no_longer_than_allowed():
    rng = np.random.default_rng(5)
    for _ in range(20):
        raws = [*star(10 ** rng.uniform(-5, -2), 4), *star(10 ** rng.uniform(-5, -2), 3)]
        sketches = [make_sketch(r, "BF16") for r in raws]
        alone = [i for i in range(len(raws)) if i % 3 == 0]
        bases = [None if i in alone else int(rng.choice(alone)) for i in range(len(raws))]
        members = [Member(s, 9000, b) for s, b in zip(sketches, bases, strict=True)]
        for length in (1, 2, CHAIN_LENGTH):
            parents = plan_family(members, length).bases
            levels = levels_of(np.array([-1 if b is None else b for b in parents]))
            assert levels.max() <= length


@pytest.mark.parametrize("scale", [3e-5, 1e-4, 5e-4])
@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_predictions_come_near_real_frames(dtype: str, scale: float):
    rng = np.random.default_rng(6)
    base = rng.normal(0, 0.05, 32768).astype(np.float32)
    tuned = base + rng.normal(0, scale, base.size).astype(np.float32)
    one, other = (bf16(v) if dtype == "BF16" else v.tobytes() for v in (base, tuned))
    real = len(encode_tensor(other, dtype, base=one))
    (predicted,) = predict_deltas(make_sketch(other, dtype), [make_sketch(one, dtype)])
    assert abs(predicted - real) < 0.05 * len(other)
    alone = len(encode_tensor(other, dtype))
    assert abs(predict_alone(make_sketch(other, dtype)) - alone) < 0.04 * len(other)
    assert predicted < predict_alone(make_sketch(other, dtype))


@pytest.mark.filterwarnings("error")
def test_short_chunks_of_which_nothing_is_known_stay_as_they_are():
    sketch = make_sketch(bytes(range(200)), "U8")
    assert not sketch.words
    members = [Member(sketch, 210, None), Member(sketch, 90, 0), Member(sketch, 110, 0)]
    plan = plan_family(members)
    assert plan.bases == (None, 0, 0)
    assert plan.after == plan.before
    assert predict_deltas(sketch, [sketch, sketch]) == [predict_alone(sketch)] * 2
