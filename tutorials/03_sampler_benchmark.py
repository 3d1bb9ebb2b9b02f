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
# # Which sampler? A benchmark with known answers
#
# Deep linear networks are singular, as deep networks are, and their learning coefficient is known
# exactly (Aoyagi 2024). There, any error is the sampler's. Hitchcock and Hoogland (2507.21449) compare
# stochastic-gradient samplers in this way; this notebook opens such a comparison, made with the kit, and
# re-runs a small part of it.
#
# ## Build a network
#
# Widths and ranks determine the coefficient. Move the sliders: a lower rank is a simpler network, with
# a smaller $\lambda$ than half the number of parameters.

# %%
from pathlib import Path

import numpy as np
import xarray as xr

import slt_notebook as slt

slt.NetworkBuilder()

# %% [markdown]
# **Certified?** Aoyagi's formula gives the least coefficient over the whole set of optimal parameters. A
# chain started at a given $w^*$ sees the coefficient *there*. Where half the rank of the Jacobian at
# $w^*$ equals the formula, both are the same and the network is certified; where the point is smooth,
# half the rank is the coefficient at it. Statements of right and wrong below use certified networks.

# %%
for network in slt.benchmarks.networks("1k", 4, seed=11):
    print(network, "\n   ", network.why)

# %% [markdown]
# ## The shipped result
#
# Seven samplers, seven step sizes, networks of three classes of size. All chains start at $w^*$, with
# exact gradients, $n\beta = 10^5/\log 10^5$ and $\gamma = 1$. The whole run takes some ten minutes on two
# cores, so the chains are short: 1000 steps for networks of about 1,000 parameters, 600 for 10,000, 200
# for 100,000 (`slt-notebook experiment benchmarks samplers OUT.zarr`; with `--sizes 1M 10M
# 100M` the larger classes, which need a GPU).

# %%
data = xr.open_zarr(Path("samplers.zarr"), consolidated=False).load()
slt.SamplerBenchmark(data)

# %% [markdown]
# Left: the median relative error, and the share of pairs of networks that the estimates put in the right
# order. Drag to a step size, and the right panel plots the estimates there against the truth. Samplers
# can be switched off; a click on a network follows it.

# %%
LOST = 1e9  # the error of a chain that was lost: larger than any other
rows = []
for size in ("1k", "10k", "100k", "all"):
    part = data if size == "all" else data.isel(problem=data["size"].values == size)
    error = abs(part.relative_error).fillna(LOST)
    low, middle, high = error.quantile([0.25, 0.5, 0.75], "problem")
    for sampler in data.sampler.values:
        best = int(np.argmin(middle.sel(sampler=sampler).values))
        of = {"sampler": sampler, "step_size": data.step_size[best]}
        found = [float(q.sel(of)) for q in (low, middle, high)]
        rows.append((size, sampler, float(data.step_size[best]), found, part.sizes["problem"]))
ranking, number = {}, {}
for size, sampler, step, (low, value, high), count in sorted(rows, key=lambda r: (r[0], r[3][1])):
    upper = f"{high:.1%}" if high < LOST / 10 else "lost"
    spread = f"{low:.1%} to {upper}" if count > 1 else "one network, no interval"
    ranking.setdefault(size, []).append(f"{sampler} {value:.1%} ({spread}; step {step:.0e})")
    number[size] = count
for size in ("1k", "10k", "100k", "all"):
    print(
        f"{size}, {number[size]} networks, best first: median (quartiles over networks; best step)"
    )
    print("   " + "\n   ".join(ranking[size]))

# %% [markdown]
# **As found, not as expected.** The paper's claim is that SGLD preconditioned by RMSProp represents the
# local posterior best, up to 100 million parameters. In this run the samplers with momentum (SGHMC,
# SGNHT) have the least medians in every class. At about 1,000 parameters these are 1 to 3 % against 4 to
# 5 % of the others, but the quartiles overlap (.6 to 12 % against 2 to 11 %), so that eight networks
# decide nothing there; at 10,000 parameters 2 to 3 % against 15 % and more, with quartiles apart (up to
# 5 % against 10 % and more), because they travel further in the same number of steps. The robustness of
# RMSProp shows in another way: at steps that are too large its chains stay finite (and wrong), where
# those of momentum samplers diverge. Three differences to the paper: gradients are exact here, and batch
# noise heats a sampler the more the less friction it has; chains are short; and the class 100k is one
# network, on which plain SGLD has not converged after 200 steps. The small number of networks, 13 in
# all, leaves differences of a few per cent open.
#
# How wide is the range of steps that work?

# %%
wide = {}
for sampler in data.sampler.values:
    error = abs(data.relative_error.sel(sampler=sampler)).fillna(np.inf).median("problem")
    good = data.step_size.values[(error < 0.1).values]
    wide[str(sampler)] = f"{good.min():.0e} to {good.max():.0e}" if len(good) else "nowhere"
for name, text in wide.items():
    print(f"{name:24} median error below 10 % at steps {text}")

# %% [markdown]
# ## Look at the traces
#
# Two samplers on one network, at the same step size, with the true coefficient as a line.

# %%
network = slt.benchmarks.networks("1k", 1, seed=11)[0]
settings = {"nbeta": 1e5 / np.log(1e5), "gamma": 1.0, "chains": 2, "draws": 1000, "burnin": 0}
step = 1e-7
runs = {
    name: slt.sample(network.loss, network.data, kernel=kernel, batch_size=1, **settings)
    for name, kernel in (
        ("SGLD", slt.SGLD(step)),
        ("SGHMC", slt.SGHMC(step, friction=0.1)),
    )
}
slt.TraceView(runs["SGLD"], truth=network.learning_coefficient)

# %%
slt.TraceView(runs["SGHMC"], truth=network.learning_coefficient)

# %% [markdown]
# With the same noise per step, the momentum of SGHMC carries a chain along the flat directions that
# SGLD explores by a random walk. (A step of `SGHMC` is $\epsilon = h^2$ for a time step $h$, so that its drift
# at a given step size is that of SGLD; see its docstring.)
#
# ## Run a part of it yourself
#
# `slt.benchmarks.run` takes any samplers and problems. Two step sizes, two networks:

# %%
small = slt.benchmarks.run(
    {"SGLD": slt.SGLD(), "SGHMC": slt.SGHMC(friction=0.1)},
    slt.benchmarks.networks("1k", 2, seed=4, certified=True),
    step_sizes=(1e-7, 1e-6),
    steps=600,
    progress=True,
)
small[["estimate", "mcse", "relative_error"]].to_dataframe()[
    ["truth", "estimate", "mcse", "relative_error"]
].round(3)

# %% [markdown]
# Your own sampler is a frozen dataclass with `init` and `step` (see `slt_notebook/core`); add it to the
# dictionary to include it.
#
# What no benchmark with known answers can show: whether the ranking holds where the loss is no
# polynomial and gradients are noisy. That is what `slt.calibrate` asks of *your* model
# (`02_calibration`).
