"""The language has the statistics that it states, and a model learns it in stages."""

import numpy as np
import pytest
import xarray as xr

from slt_notebook.errors import InputError
from slt_notebook.experiments import mini_lm
from slt_notebook.models.losses.causal_lm import causal_lm
from slt_notebook.models.probes import token_probe
from slt_notebook.toys.mini_language import ABILITIES, ROLES, SLOTS, Language

LANGUAGE = Language()
AT = LANGUAGE.starts
CLOSE = AT["closer"] - AT["opener"]


@pytest.fixture(scope="module")
def sample():
    return LANGUAGE.sample(3000, 0)


def of(sample, role):
    return sample.role == ROLES.index(role)


def parse(ids):
    """Roles of one sequence, read from its symbols alone by another way than it was made."""
    kind = lambda i: max((k for k in AT if k != "end" and AT[k] <= i), key=AT.get)
    stack, span, place, out = [], None, None, []
    for i in ids.tolist():
        name = kind(i)
        if name == "opener":
            stack.append(i)
        elif name == "closer":
            assert stack.pop() == i - CLOSE, "a closer that does not fit"
        elif name == "word":
            if place is None or place == LANGUAGE.span:
                place = 0
                old = span is not None and len(span) == LANGUAGE.span
                span = span if old else []
            if not old:
                assert i not in span
                span.append(i)
            assert span[place] == i
            name = "first" if place == 0 else "repeat" if old else "fresh"
            place += 1
        if name in ("filler", "opener") or stack:
            assert name in ("filler", "opener", "closer") and len(stack) <= 2
        out.append(name)
    return out


def test_roles_are_what_the_symbols_say(sample):
    for ids, role in zip(sample.ids[:300], sample.role[:300], strict=True):
        assert parse(ids) == [ROLES[r] for r in role]


def test_pairs_have_the_stated_entropy(sample):
    tail = of(sample, "tail")
    t = sample.ids[tail] - AT["tail"]
    h = sample.ids[:, :-1][tail[:, 1:]] - AT["head"]
    counts = np.zeros((LANGUAGE.pairs,) * 2)
    np.add.at(counts, (h, t), 1)
    hits, n = np.trace(counts), counts.sum()
    assert abs(hits / n - LANGUAGE.regular) < 4 * np.sqrt(0.09 / n)
    p = counts / counts.sum(1, keepdims=True)
    entropy = -(counts / n * np.log(np.where(p > 0, p, 1))).sum()
    # Plug-in entropy: bias (cells - 1) / 2n a head; spread of -ln p over tokens.
    bias = LANGUAGE.pairs * (LANGUAGE.pairs - 1) / 2 / n
    error = sample.ideal[tail].std() / np.sqrt(n)
    floor = LANGUAGE.floor()["bigram"]
    assert abs(entropy + bias - floor) < 4 * error
    assert abs(sample.ideal[tail].mean() - floor) < 4 * error


def test_the_ideal_reader_pays_what_the_closed_forms_say(sample):
    # Brackets that begin in the first half are whole, so their slots are not cut short.
    closes = of(sample, "closer")
    first = {"bracket": [], "slots": []}
    for e in range(600):
        stack = []
        for t in range(LANGUAGE.length):
            name = ROLES[sample.role[e, t]]
            if name == "opener":
                if stack:
                    stack[-1][1] += 1
                stack.append([t, 0])
            elif name == "filler":
                stack[-1][1] += 1
            elif name == "closer":
                begun, slots = stack.pop()
                if begun < LANGUAGE.length // 2:
                    first["bracket"].append(sample.ideal[e, t])
                    first["slots"].append(slots)
    paid, slots = np.array(first["bracket"]), np.array(first["slots"])
    np.testing.assert_allclose(paid, np.log(SLOTS - slots + 1))
    share = np.bincount(slots, minlength=SLOTS + 1)[1:] / len(slots)
    assert np.abs(share - 1 / 3).max() < 4 * np.sqrt(2 / 9 / len(slots))
    floor = LANGUAGE.floor()["bracket"]
    assert abs(paid.mean() - floor) < 4 * paid.std() / np.sqrt(len(paid))
    assert closes.sum() > 1000
    assert (sample.ideal[of(sample, "repeat")] == 0).all()
    fresh = sample.ideal[of(sample, "fresh")]
    allowed = np.log(LANGUAGE.words - np.arange(1, LANGUAGE.span))
    assert set(np.round(fresh, 6)) <= set(np.round(allowed, 6))


def test_the_ideal_probability_sums_to_one_over_what_may_come_next():
    """Where a piece begins, the share of each kind of token is its ideal probability."""
    sample = Language(length=2).sample(20_000, 3)
    second = sample.ids[:, 1]
    p = np.exp(-sample.ideal[:, 1])
    kinds = np.unique(second)
    total = sum(p[second == i].mean() for i in kinds)
    assert abs(total - 1) < 1e-9
    for i in kinds:
        share = (second == i).mean()
        assert np.ptp(p[second == i]) == 0
        assert abs(share - p[second == i][0]) < 4.5 * np.sqrt(share / 20_000)


def test_one_seed_one_sample_and_sizes_are_checked():
    a, b = LANGUAGE.sample(5, 1), LANGUAGE.sample(5, 1)
    np.testing.assert_array_equal(a.ids, b.ids)
    assert (LANGUAGE.sample(5, 2).ids != a.ids).any()
    with pytest.raises(InputError, match="span up to words"):
        Language(span=30)
    with pytest.raises(InputError, match="shares that add to 1"):
        Language(shares=(0.5, 0.5, 0.5))
    assert len(set(LANGUAGE.strings().values())) == LANGUAGE.vocabulary


def test_bands_are_crossings_of_shares():
    step, loss = np.array([0, 10, 20, 30]), np.array([4.0, 2.0, 1.0, 0.0])
    # Blind 3, floor 0: 10 % at loss 2.7, 90 % at .3.
    assert mini_lm.bands(step, loss, 3, 0) == pytest.approx((6.5, 27))
    low, high = mini_lm.bands(step, loss + 1, 3, 0)
    assert low == pytest.approx(13)
    assert np.isnan(high)


def test_class_losses_and_their_errors():
    rng = np.random.default_rng(0)
    masks = {"all": np.ones((400, 5), bool), "some": rng.random((400, 5)) < 0.4}
    values = rng.normal(2, 1, (400, 5))
    means, errors = mini_lm.class_losses(values, masks)
    assert means[1] == pytest.approx(values[masks["some"]].mean())
    assert errors[0] == pytest.approx(1 / np.sqrt(2000), rel=0.15)
    assert errors[1] == pytest.approx(1 / np.sqrt(800), rel=0.15)


def test_pairs_are_learned_first():
    short = Language(length=32)
    held = short.sample(128, 9)
    masks = mini_lm.groups(held)
    assert list(masks) == [*ABILITIES, "new words"]
    *_, (step, gpt) = mini_lm.train(short, 120, rate=3e-3)
    loss = causal_lm(gpt)
    per_token = loss.evaluate(loss.params, token_probe("held", held.ids).tensors("cpu")).numpy()
    means = dict(zip(masks, mini_lm.class_losses(per_token, masks)[0], strict=True))
    blind, floor = short.blind(), short.floor()
    learned = {a: (blind[a] - means[a]) / (blind[a] - floor[a]) for a in ABILITIES}
    assert step == 120
    assert learned["bigram"] > 0.5 > 0.2 > learned["induction"]
    assert means["new words"] > 2.5


def test_the_experiment_writes_what_the_tutorial_opens(tmp_path):
    out = tmp_path / "mini.nc"
    few = {**mini_lm.SETTING, "chains": 2, "draws": 4, "burnin": 2, "thin": 1, "batch_size": 4}
    mini_lm.experiment(
        str(out), str(tmp_path / "runs"), (0, 12), language=Language(length=24), setting=few
    )
    found = xr.load_dataset(out, engine="scipy")
    assert found.covariance.dims == ("step", "pairs_of", "group", "group_")
    assert found.step.values.tolist() == [0, 12]
    assert found.curve.values[-1] == 12 and found.loss.shape == (found.sizes["curve"], 4)
    both = found.covariance.sel(step=12).values
    np.testing.assert_allclose(both, both.transpose(0, 2, 1), rtol=1e-4)
    # Pairs of one token can only be missing within a class of tokens that share a vocabulary.
    np.testing.assert_allclose(both[0][0, 1:3], both[1][0, 1:3], rtol=1e-4)
    assert found.attrs["sign"] == "negative = helpful"
