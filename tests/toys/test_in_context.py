"""The ideal predictors and the authors' transformer, against exact values."""

import numpy as np
import pytest
import torch

from slt_notebook.errors import InputError
from slt_notebook.toys import in_context as ic
from slt_notebook.toys.in_context.training import Recipe

# Of the problem with D = 8, K = 16, noise 0.125: means over one draw of the tasks, good to 3-5 %;
# small M depends on the drawn tasks, so those are only held to 20 %.
TABLE = {  # M: (dMMSE on q_M, ridge on q_M, dMMSE on N(0, I))
    1: (0.125, 1.36, 11.5),
    8: (0.68, 2.31, 9.40),
    16: (0.84, 2.46, 8.92),
    64: (1.22, 2.76, 7.28),
    256: (1.45, 2.69, 6.02),
    1024: (1.67, 2.68, 5.04),
}
RIDGE = [8.25, 6.86, 6.14, 5.01, 4.14, 3.38, 2.41, 1.77, 1.20, 0.88]
RIDGE += [0.62, 0.49, 0.40, 0.36, 0.29, 0.29]


def draw(tasks, count=4096, seed=0, setting=ic.PAPER):
    return ic.sequences(count, setting, tasks, torch.Generator().manual_seed(seed))


def mean_and_error(value):
    each = value.mean(1)
    return float(each.mean()), float(each.std() / len(each) ** 0.5)


@pytest.mark.parametrize(
    "count", [pytest.param(c, marks=pytest.mark.exhaustive) if c == 256 else c for c in TABLE]
)
def test_the_table_of_targets(count):
    setting = ic.PAPER
    tasks = ic.tasks(count, setting)
    size = 4096 if count <= 256 else 1024
    x, y = draw(tasks, size)
    xo, yo = draw(None, size, seed=1)
    noise = setting.noise
    loss = lambda guess, y: mean_and_error((guess - y).square())
    found = (
        loss(ic.dmmse(x, y, tasks, noise), y),
        loss(ic.ridge(x, y, noise), y),
        loss(ic.dmmse(xo, yo, tasks, noise), yo),
    )
    slack = 0.2 if count <= 16 else 0.05  # how far the tasks that were drawn move the value
    for (value, error), expected in zip(found, TABLE[count], strict=True):
        assert abs(value - expected) < 4 * error + slack * expected
    # The identity that makes dMMSE the best predictor: E (dMMSE - ridge)^2 = the gap of the losses.
    best, other = ic.dmmse(x, y, tasks, noise), ic.ridge(x, y, noise)
    gap = (other - y).square() - (best - y).square() - (best - other).square()
    value, error = mean_and_error(gap)
    assert abs(value) < 4 * error


def test_ridge_out_of_distribution_per_position():
    x, y = draw(None, 20_000)
    error = (ic.ridge(x, y, 0.125) - y).square()
    spread = error.std(0) / len(error) ** 0.5
    # The table's own 4,096 sequences have twice the error of these.
    assert ((error.mean(0) - torch.tensor(RIDGE)).abs() < 4 * spread * 5**0.5 + 0.005).all()


def test_one_task_leaves_the_noise_and_ridge_starts_at_zero():
    tasks = ic.tasks(1, ic.PAPER)
    x, y = draw(tasks, 20_000)
    value, error = mean_and_error((ic.dmmse(x, y, tasks, 0.125) - y).square())
    assert abs(value - 0.125) < 4 * error
    assert ic.ridge(x, y, 0.125)[:, 0].abs().max() == 0


def test_dmmse_is_the_naive_double_loop():
    setting = ic.SMALL
    tasks = ic.tasks(5, setting)
    x, y = draw(tasks, 7, setting=setting)
    found = ic.dmmse(x, y, tasks, setting.noise)
    for i in range(7):
        for k in range(setting.length):
            error = ((y[i, :k, None] - x[i, :k].double() @ tasks.T) ** 2).sum(0)
            weight = torch.exp(-error / (2 * setting.noise))
            guess = (weight @ tasks / weight.sum()) @ x[i, k].double()
            assert float(found[i, k]) == pytest.approx(float(guess), rel=1e-6, abs=1e-9)
    np.testing.assert_allclose(ic.posterior(x, y, tasks, setting.noise).sum(-1), 1.0, rtol=1e-12)


def test_dmmse_of_many_tasks_tends_to_ridge():
    setting = ic.SMALL
    x, y = draw(None, 64, setting=setting)
    far = [
        float((ic.dmmse(x, y, ic.tasks(m, setting), 0.125) - ic.ridge(x, y, 0.125)).square().mean())
        for m in (16, 256, 16384)
    ]
    assert far[0] > far[1] > far[2] and far[2] < 0.05 * far[0]


def test_task_sets_are_nested():
    assert torch.equal(ic.tasks(64, ic.PAPER)[:9], ic.tasks(9, ic.PAPER))
    assert not torch.equal(ic.tasks(2, ic.PAPER, seed=1), ic.tasks(2, ic.PAPER))


@pytest.mark.parametrize(
    ("setting", "width", "project", "parameters"),
    [
        (ic.PAPER, 512, False, 2_654_217),
        (ic.SMALL, 64, True, 51_717),
        (ic.SMALL, 48, False, 24_965),
    ],
)
def test_the_authors_architecture_has_their_number_of_parameters(
    setting, width, project, parameters
):
    model = ic.Transformer(setting, width, project=project)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_a_prediction_sees_the_pairs_before_and_its_own_x_alone():
    model = ic.Transformer(ic.SMALL, 16)
    x, y = draw(None, 3, setting=ic.SMALL)
    before = ic.predictions(model, x, y)
    y2, x2 = y.clone(), x.clone()
    y2[:, 4:] += 1
    x2[:, 5:] += 1
    after = ic.predictions(model, x2, y2)
    torch.testing.assert_close(after[:, :5], before[:, :5])
    assert (after[:, 5:] - before[:, 5:]).abs().min() > 0


def test_the_published_schedule_of_checkpoints():
    steps = ic.checkpoint_steps(150_000, 100, 1000)
    assert len(steps) == 2203 and steps[0] == 0 and steps[-1] == 150_000


def test_a_short_run_learns_is_repeatable_and_says_what_it_measured():
    recipe = Recipe(width=16, steps=60, every=30, spaced=6, warmup=10, root=8, shown=128)
    found = ic.train(4, recipe, seed=1, progress=False)
    again = ic.train(4, recipe, seed=1, progress=False)
    assert found.equals(again)
    assert list(found.step.values) == ic.checkpoint_steps(60, 30, 6)
    assert float(found.loss[-1].mean()) < float(found.loss[0].mean())
    other = ic.train(8, recipe, seed=1, progress=False)
    # Runs of a seed share the root task's sequences, the initial weights and the OOD set.
    np.testing.assert_array_equal(found.ridge, other.ridge)
    np.testing.assert_array_equal(found.output[0], other.output[0])
    np.testing.assert_array_equal(found.ridge_ood, other.ridge_ood)
    infinite = ic.train(None, recipe, seed=1, progress=False)
    np.testing.assert_array_equal(infinite.to_dmmse, infinite.to_ridge)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ic.Setting(0, 4, 0.1),
        lambda: ic.Setting(4, 4, 0.0),
        lambda: ic.tasks(0, ic.SMALL),
        lambda: ic.train(0),
        lambda: ic.Transformer(ic.SMALL, 10, heads=4),
    ],
)
def test_bad_input_is_refused(make):
    with pytest.raises(InputError):
        make()
