# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Calibration: settings that can be trusted
#
# An estimate of a local learning coefficient depends on a step size, a temperature ($n\beta$), a
# localization ($\gamma$), a burn-in and a length. It is often said that choosing them is an art. Here
# it is a measurement: `slt.calibrate` tries settings, throws out those that something speaks against,
# and says why it chose what it chose, or that nothing can be trusted.
#
# First, why one would want that.
#
# ## Confident and wrong
#
# Linear regression with 20 features. The model is regular, so $\lambda = 20/2 = 10$, and the value at
# any temperature is known in closed form. Let us sample it with settings that look reasonable:
# $n\beta = n/\log n$, as the theory suggests, and small batches, as one uses for training.

# %%
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
import xarray as xr

import slt_notebook as slt

problem = slt.benchmarks.linear_gaussian(features=20, examples=2000, noise=1.0)
nbeta, gamma = 2000 / np.log(2000), 1.0
naive = slt.sample(
    problem.loss,
    problem.data,
    kernel=slt.SGLD(2e-3),
    nbeta=nbeta,
    gamma=gamma,
    chains=4,
    draws=2000,
    burnin=1000,
    batch_size=8,
)
estimate = slt.llc(naive)
low, high = estimate["interval"].values
print(f"estimate {float(estimate['mean']):.1f}, 95 % interval {low:.1f} to {high:.1f}")
print(f"R-hat {float(estimate['rhat']):.3f}, effective draws {float(estimate['ess']):.0f}")
print(f"exact    {problem.exact(nbeta, gamma):.2f}")

# %%
slt.TraceView(naive, truth=problem.exact(nbeta, gamma))

# %% [markdown]
# The chains agree, the trace is level, the interval is narrow, and the value is several times too
# large. The noise of the batches, multiplied by $n\beta$, drives the chains further from $w^*$ than the
# temperature does. No amount of patience helps: more draws make the interval narrower around the same
# wrong value. R-hat and the effective sample size ask whether the chains have settled. They have.
#
# What sees it is a **control**: how much does the loss rise if the loss does not act on the chain at
# all? At $n\beta = 0$ the law is known exactly, a Gaussian of variance $1/\gamma$ around $w^*$. The kit
# draws from it at the end of every run and divides: $\rho_\mathrm{loc}$ is the rise of the loss as a
# share of its rise under localization alone. The data hold the chains back, so it should be well
# below 1.

# %%
slt.health(naive)

# %% [markdown]
# The same, done by hand: a run with $n\beta = 0$, in which nothing but the localization acts.

# %%
free = slt.sample(
    problem.loss,
    problem.data,
    kernel=slt.SGLD(0.2),
    nbeta=0.0,
    gamma=gamma,
    chains=4,
    draws=1000,
    burnin=200,
    batch_size=8,
)


def rise(run, burnin):
    sampling = run.tree["sampling"].to_dataset().isel(step=slice(burnin, None))
    return float((sampling.loss - sampling.init_loss).mean())


print(f"the loss rises by {rise(naive, 1000):.2f} in the run, by {rise(free, 200):.2f} at nbeta = 0")
print(f"it should rise by {problem.exact(nbeta, gamma) / nbeta:.3f}")

# %% [markdown]
# ## Calibrate
#
# `calibrate` measures the largest curvature at $w^*$, walks all combinations of step size, $n\beta$ and
# $\gamma$ as chains of one run, and judges each. A setting is trusted only if half its step gives the
# same answer, localization and batch noise do not rule it, and its chains agree and have arrived.

# %%
found = slt.calibrate(problem.loss, problem.data, batch_size=200, gammas=(1.0, 30.0), confirm=True)
print(found.reason)

# %%
slt.CalibrationView(found)

# %% [markdown]
# Click on a cell: its traces, its numbers, and what spoke against it. Here we can look the answer up.

# %%
if found.ok:
    truth = problem.exact(found.nbeta, found.gamma)
    print(f"found {found.llc['mean']:.2f} ({found.llc['lower']:.2f} to {found.llc['upper']:.2f})")
    print(f"exact at this nbeta and gamma {truth:.2f}; lambda {problem.learning_coefficient:.0f}")

# %% [markdown]
# What does it say to the batches of 8?

# %%
small = slt.calibrate(
    problem.loss, problem.data, batch_size=8, nbetas=(nbeta,), gammas=(1.0,), rounds=2
)
small

# %% [markdown]
# ## A degenerate model
#
# A deep linear network whose coefficient is certified: half the rank of the Jacobian at $w^*$ equals
# the coefficient that Aoyagi's formula gives. Nothing is told to `calibrate` but loss and data.

# %%
network = slt.benchmarks.networks("1k", 1, seed=5, certified=True)[0]
print(network, "\n", network.why)
found = slt.calibrate(network.loss, network.data)
print(found.reason)

# %%
slt.CalibrationView(found)

# %% [markdown]
# ## How often is it right?
#
# The same on 60 certified networks that played no part in making the rules
# (`python -m slt_notebook.benchmarks.experiments calibrated OUT.zarr` makes this file).

# %%
results = xr.open_zarr(Path("calibrated.zarr"), consolidated=False).load()
ok = results.ok.values
error = abs(results.estimate / results.truth - 1).values[ok]
held = ((results.lower <= results.truth) & (results.truth <= results.upper)).values[ok]
print(f"{len(ok)} networks, a setting for {ok.sum()}")
print(f"median error {np.median(error):.2%}, 90th percentile {np.quantile(error, 0.9):.2%}")
print(f"the stated interval holds the truth in {held.sum()} of {len(held)}")
for name, reason in zip(results.problem.values[~ok], results.reason.values[~ok], strict=True):
    print(f"refused {name}: {reason}")

# %%
table = results[["truth", "estimate", "lower", "upper", "size", "seconds"]].to_dataframe()
table = table[ok].reset_index()
points = (
    alt.Chart(table)
    .mark_circle(size=50)
    .encode(
        x=alt.X("truth:Q", scale=alt.Scale(type="log"), title="exact coefficient"),
        y=alt.Y("estimate:Q", scale=alt.Scale(type="log"), title="estimate"),
        color=alt.Color("size:N", title="class", sort=["1k", "10k", "100k"]),
        tooltip=["problem", "truth", "estimate", "lower", "upper"],
    )
)
ends = pd.DataFrame({"at": [float(table.truth.min()), float(table.truth.max())]})
diagonal = alt.Chart(ends).mark_line(color="gray", strokeDash=[4, 4]).encode(x="at:Q", y="at:Q")
(diagonal + points).properties(width=360, height=300)

# %% [markdown]
# ## A language model
#
# For `tiny-lm` the truth is not known. What can be asked is whether three calibrations with different
# seeds reach the same verdict (`python -m slt_notebook.benchmarks.experiments language-model OUT.nc`).

# %%
seeds = xr.open_dataset(Path("calibrated_tiny_lm.nc"), engine="h5netcdf").load()
for one in seeds.seed.values:
    print(f"seed {one}, {float(seeds.seconds.sel(seed=one)):.0f} s:", seeds.reason.sel(seed=one).item())

# %% [markdown]
# ## What to remember
#
# - Chains that agree can agree on the wrong value. Look at $\rho_\mathrm{loc}$ and at half the step.
# - An LLC belongs to its $n\beta$ and $\gamma$ unless it has levelled off over $n\beta/\gamma$; compare
#   models at equal settings.
# - "No trustworthy setting" is an answer. It says what stands in the way.
