"""The joint PCA is that of the stacked matrix in any blocks, and a random walk gives arcs."""

import numpy as np
import pytest
import xarray as xr

from slt_notebook import names
from slt_notebook.errors import InputError
from slt_notebook.estimators.training import trajectory
from slt_notebook.estimators.training.trajectory import random_walk, trajectory_pca, walk_explained


def runs(count=3, steps=40, shape=(6, 4), seed=0):
    rng = np.random.default_rng(seed)
    basis = rng.standard_normal((3, *shape)) * np.array([5.0, 2.0, 1.0])[:, None, None]
    out = {}
    for k in range(count):
        time = np.linspace(0, 1, steps)
        path = np.stack([time, (k - 1) * time**2, np.sin(6 * time) * k], 1)
        noise = 0.05 * rng.standard_normal((steps, *shape))
        out[f"run {k}"] = xr.DataArray(
            np.einsum("sk,k...->s...", path, basis) + noise,
            {names.STEP: np.arange(steps) * 10},
            (names.STEP, "example", "position"),
        )
    return out


def by_svd(given, components):
    rows = np.concatenate([r.values.reshape(r.sizes["step"], -1) for r in given.values()])
    centred = rows - rows.mean(0)
    _, s, vt = np.linalg.svd(centred, full_matrices=False)
    v = vt[:components].T
    v = v * np.sign(v[np.abs(v).argmax(0), np.arange(components)])
    return centred @ v, s[:components] ** 2 / (s**2).sum(), rows.mean(0), v


@pytest.mark.parametrize(
    ("steps", "shape", "dense"),
    [(40, (6, 4), 1500), (40, (6, 4), 5), (10, (20, 4), 1500)],
    ids=["covariance", "lanczos", "more columns than rows"],
)
def test_against_the_svd_of_the_stacked_matrix(steps, shape, dense, monkeypatch):
    monkeypatch.setattr(trajectory, "DENSE", dense)
    monkeypatch.setattr(trajectory, "ROWS", 7)
    given = runs(steps=steps, shape=shape)
    score, explained, mean, axes = by_svd(given, 3)
    found = trajectory_pca(given, components=3)
    np.testing.assert_allclose(found.explained, explained, rtol=1e-5)
    np.testing.assert_allclose(found.score.values.reshape(-1, 3), score, atol=1e-4)
    np.testing.assert_allclose(found["mean"].values.ravel(), mean, atol=1e-6)
    np.testing.assert_allclose(found.loading.values.reshape(3, -1).T, axes, atol=1e-5)


def test_predictors_are_projected_and_are_no_part_of_the_pca():
    given = runs()
    goal = {"ideal": given["run 2"].isel(step=-1, drop=True) * 1.5}
    found = trajectory_pca(given, predictors=goal)
    alone = trajectory_pca(given)
    xr.testing.assert_equal(found.score, alone.score)
    by_hand = ((goal["ideal"] - found["mean"]) * found.loading).sum(("example", "position"))
    np.testing.assert_allclose(found.predictor_score.sel(predictor="ideal"), by_hand, rtol=1e-5)


def test_runs_may_be_read_late_and_may_stop_early():
    given = {k: v.assign_coords(run=k) for k, v in runs().items()}  # as `.sel(run=k)` leaves them
    given["run 1"] = given["run 1"].isel(step=slice(0, 20))
    late = {name: (lambda value=value: value) for name, value in given.items()}
    found = trajectory_pca(late)
    assert found.score.sel(run="run 1").isnull().any("component").sum() == 20
    xr.testing.assert_equal(found, trajectory_pca(given))


def test_a_long_walk_explains_what_the_theory_says():
    line = xr.DataArray(np.arange(1001.0)[:, None], dims=("step", "column"))
    walk = random_walk({"walk": line}, columns=4000)
    found = trajectory_pca(walk, components=4)
    # The eigenvalues of one walk in d dimensions fluctuate by sqrt(2 / d) of themselves.
    np.testing.assert_allclose(found.explained, walk_explained(4), rtol=5 * np.sqrt(2 / 4000))
    cosine = np.cos(np.pi * np.arange(1001) / 1000)
    assert abs(np.corrcoef(found.score.isel(run=0, component=0), cosine)[0, 1]) > 0.99


def test_a_walk_moves_as_far_as_the_run():
    given = runs()
    walk = random_walk(given)
    far = lambda x: np.linalg.norm(np.diff(x.values.reshape(x.sizes["step"], -1), axis=0), axis=1)
    for name in given:
        np.testing.assert_allclose(far(walk[name]), far(given[name]), rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda r: trajectory_pca({}), "mapping"),
        (lambda r: trajectory_pca(r, components=0), "1 to 24"),
        (lambda r: trajectory_pca(r | {"b": r["run 0"].isel(example=slice(3))}), "use one batch"),
        (lambda r: trajectory_pca({"a": r["run 0"].where(r["run 0"] > 0)}), "finite"),
        (lambda r: trajectory_pca({"a": r["run 0"].isel(step=0)}), "dim 'step'"),
        (lambda r: trajectory_pca(r, predictors={"p": r["run 0"]}), "predictor 'p'"),
    ],
)
def test_bad_input_is_refused(make, match):
    with pytest.raises(InputError, match=match):
        make(runs())
