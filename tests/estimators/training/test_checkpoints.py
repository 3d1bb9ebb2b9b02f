"""An estimate over checkpoints joins those of its runs, in the order of training."""

import numpy as np
import pytest
import torch

import slt_notebook as slt
from slt_notebook.results.sweep import run_of


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, 3)), rng.standard_normal(12)
    function = lambda p, b: (b["inputs"] @ p["w"] - b["targets"]).square() / 2
    points = {f"step{t}": slt.loss_fn({"w": torch.full((3,), t / 50)}, function) for t in (100, 20)}
    data = slt.array_probe("train", x, y)
    return slt.sweep(
        None, data, checkpoints=points, probes=[data], kernel=slt.SGLD(1e-2), nbeta=5.0, gamma=5.0,
        chains=3, draws=30, batch_size=12, progress=False,
        store=tmp_path_factory.mktemp("sweeps") / "a",
    )  # fmt: skip


def test_each_checkpoint_is_its_own_run_in_the_order_of_training(swept):
    found = slt.over_checkpoints(swept, slt.influence, unit="sequence", normalize=True)
    assert found.step.values.tolist() == [20, 100]
    assert found.checkpoint.values.tolist() == ["step20", "step100"]
    alone = slt.influence(
        run_of(swept, checkpoint="step100"), unit="sequence", normalize=True
    ).influence
    np.testing.assert_array_equal(found.influence.sel(step=100), alone)
    view = slt.InfluenceOverTraining({"BIF": found})
    assert "2 steps from 20 to 100" in view.describe()


def test_groups_and_kernels_too(swept):
    label = np.array(["a", "b"] * 6)
    groups = slt.over_checkpoints(swept, slt.group_influence, label, unit="sequence")
    assert groups.influence.dims == ("step", "group", "group_")
    kernel = slt.over_checkpoints(swept, slt.loss_kernel)
    assert kernel.sizes["step"] == 2 and kernel.dims[1:] == ("example", "example_")


def test_other_things_are_refused(swept):
    with pytest.raises(slt.InputError):
        slt.over_checkpoints(swept, slt.influence, component="l0.h9")
    with pytest.raises(slt.InputError):
        slt.over_checkpoints(3, slt.influence)
