"""Each check reports the fault that it is for, and none on a healthy run."""

import numpy as np
import pytest
import xarray as xr

from slt_notebook.estimators.health import COLUMNS, VERDICTS, health, health_text
from tests import exact
from tests.cases import synthetic_tree


def with_sampling(change, **options):
    tree = synthetic_tree(**options)
    data = tree["sampling"].to_dataset().copy(deep=True)
    data = change(data)
    probe = tree["probe/train"].to_dataset()
    return xr.DataTree.from_dict({"/sampling": data, "/probe/train": probe})


def verdicts(tree):
    table = health(tree)
    return dict(zip(table.check, table.verdict, strict=True))


def test_a_healthy_run():
    table = health(synthetic_tree(draws=100))
    assert list(table.columns) == list(COLUMNS)
    assert set(table.verdict) == {"ok"}, table
    assert (table["do"] == "").all()
    assert table.set_index("check").value["rho_loc"] == pytest.approx(0.5, abs=0.02)


def gain(function):
    return lambda d: d.assign(loss=d.init_loss + function(d))


RNG = np.random.default_rng(0)
NOISE = xr.DataArray(0.02 * RNG.standard_normal((4, 120)), dims=("chain", "step"))
SLOW = xr.DataArray(np.cumsum(0.02 * RNG.standard_normal((4, 120)), axis=1), dims=("chain", "step"))
FAULTS = {
    "negative": ("trace level", "fail", gain(lambda d: NOISE - 0.1)),
    "nothing": ("trace level", "warn", gain(lambda d: NOISE)),
    "climbing": ("drift", "fail", gain(lambda d: 0.001 * d.step + 0.1 * NOISE)),
    "falling": ("drift", "fail", gain(lambda d: 0.3 * np.exp(-d.step / 40) + 0.1 * NOISE)),
    "chains apart": ("R-hat", "fail", gain(lambda d: 0.1 * (1 + d.chain) + NOISE)),
    "slow": ("ESS", "fail", gain(lambda d: 1 + SLOW)),
    "rejected": ("acceptance", "fail", lambda d: d.assign(accept=d.accept * 0.05)),
    "often rejected": ("acceptance", "warn", lambda d: d.assign(accept=d.accept * 0.4)),
    "not spread out": ("virial", "fail", lambda d: d.assign(virial=d.virial * 0.5)),
    "step too large": ("virial", "warn", lambda d: d.assign(virial=d.virial * 1.2)),
    "noise rules": ("rho_loc", "warn", lambda d: d.assign(control_loss=d.control_loss - 0.09)),
    "one diverged": ("chains", "warn", lambda d: d.assign(status=("chain", [0, 1, 0, 0]))),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_check_fires(fault):
    check, verdict, change = FAULTS[fault]
    tree = with_sampling(change)
    table = health(tree).set_index("check")
    assert table.verdict[check] == verdict, table
    assert table["do"][check]
    assert verdicts(synthetic_tree())[check] == "ok"


def test_all_diverged():
    table = health(with_sampling(lambda d: d.assign(status=("chain", [1, 2, 3, 1]))))
    assert list(table.verdict) == ["fail"] and "smaller step_size" in table["do"][0]


def test_what_is_not_known_says_so():
    bare = exact.tree_of(
        np.random.default_rng(0).normal(1, 0.1, (1, 20)),
        0.0,
        nbeta=1,
        gamma=0,
        step_size=0.1,
        burnin=0,
    )
    found = verdicts(bare)
    for check in ("drift", "R-hat", "acceptance", "virial", "rho_loc"):
        assert found[check] == "unknown"
    assert set(found.values()) <= set(VERDICTS)
    nan = with_sampling(lambda d: d.assign(control_loss=d.control_loss * np.nan))
    assert verdicts(nan)["rho_loc"] == "unknown"


def test_before_burnin_is_over():
    tree = with_sampling(lambda d: d.assign(loss=d.loss.where(d.step < 10)))
    table = health(tree)
    assert list(table.verdict) == ["ok", "unknown"]


def test_chains_of_several_settings():
    tree = with_sampling(
        lambda d: d.assign_coords(nbeta=("chain", [1.0, 3.0, 10.0, 30.0])).assign(
            loss=d.init_loss + 0.1 + NOISE
        )
    )
    found = verdicts(tree)
    assert found["R-hat"] == found["ESS"] == "unknown" and found["trace level"] == "ok"


def test_tokens_of_unmixed_chains():
    tree = synthetic_tree()
    probe = tree["probe/train"].to_dataset().copy(deep=True)
    probe["loss"] = probe.loss + 3 * probe.chain
    apart = xr.DataTree.from_dict({"/sampling": tree["sampling"].to_dataset(), "/probe/a": probe})
    assert verdicts(apart)["R-hat > 1.1, a"] == "fail"


def test_rho_loc_against_the_closed_form():
    h, nbeta, gamma, eps = np.array([1.0, 3.0]), 30.0, 20.0, 0.005
    rng = np.random.default_rng(0)
    w = exact.sgld_linear(np.diag(nbeta * h + gamma), eps, 3000, 4, rng)
    loss = w**2 @ h / 2
    tree = exact.tree_of(loss, 0.0, nbeta=nbeta, gamma=gamma, step_size=eps, burnin=300)
    free = rng.standard_normal((4, 5000, 2)) * np.sqrt(exact.stationary_variance(gamma, eps))
    data = tree["sampling"].to_dataset()
    data["control_loss"] = (("chain", "control"), free**2 @ h / 2)
    data["control_init_loss"] = xr.zeros_like(data.control_loss)
    row = health(data).set_index("check").loc["rho_loc"]
    truth = exact.localization_share(h, nbeta, gamma, eps)
    assert abs(row.value - truth) < 4 * row.uncertainty < 0.1 * truth


def test_text():
    text = health_text(with_sampling(FAULTS["negative"][2]))
    assert "FAIL  trace level" in text and "→" in text
    assert len(health_text(synthetic_tree()).splitlines()) == 9
