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
# # Two solutions with one loss
#
# Training settles a question that the data leave open. This page looks at the learning coefficient as a
# part of the answer: when is one of two solutions preferred, and what has that to do with how they
# generalise?
#
# ## When the simpler one wins
#
# To leading order, the free energy of a solution is $F_n = n L + \lambda \log n$, and the log odds of
# two are the difference. The solution with the higher loss and the lower $\lambda$ wins while $n$ is
# small. The example: $L = .3, \lambda = 20$ against $L = .5, \lambda = 2$.

# %%
import numpy as np
import pandas as pd
import torch
import xarray as xr

import slt_notebook as slt

print("crossover at n =", round(slt.crossover(losses=(0.3, 0.5), llcs=(20, 2)), 1))
slt.OddsView(losses=(0.3, 0.5), llcs=(20, 2), names=("accurate", "simple"))

# %% [markdown]
# Set both losses to the same value: the crossover is gone, and the lower $\lambda$ wins at every $n$. That
# is the case of the rest of the page.
#
# ## Where $\lambda$ comes from: volumes
#
# $\lambda$ says how fast the volume of weights that are almost as good shrinks: $V(\epsilon) \sim c\,
# \epsilon^\lambda (\log 1/\epsilon)^{m-1}$. Three basins whose volumes are known exactly:

# %%
from slt_notebook.benchmarks.volumes import BASINS
from slt_notebook.estimators.llc.codelength import fit_volume

rows = []
for basin in BASINS:
    for low, high in ((2, 8), (4, 30), (10, 200)):
        size = np.linspace(low, high, 200) * np.log(10)
        llc, multiplicity = fit_volume(size, basin.log_volume(size))
        true = f"({basin.learning_coefficient:g}, {basin.multiplicity})"
        rows.append((basin.formula, true, f"1e{low} .. 1e{high}", llc, multiplicity))
pd.DataFrame(rows, columns=["loss", "(λ, m)", "n", "fitted λ", "fitted m"]).round(3)

# %% [markdown]
# The multiplicity converges only as $1 / \log n$: a million observations are not enough to see that it
# is 2.
#
# ## One loss, two places
#
# *Line and dot*: the loss $2 (w_1 - 1)^2 |w|^8$ is zero on a line and at the origin. The dot is more
# degenerate ($\lambda = 1/4$ against $1/2$), so that it gains as $n$ grows. *Cubic mean*: the
# coefficient of $p(x|\mu) = N(\mu^3, 1)$ is $1/6$ at $\mu = 0$ and $1/2$ elsewhere; near 0 the apparent
# value depends on the scale.

# %%
dot, line = (slt.benchmarks.line_and_dot(at) for at in ("dot", "line"))
print("dot ", [round(dot.exact(n, 50.0), 3) for n in (1e3, 1e5, 1e7)], "towards 1/4")
print("line", [round(line.exact(n, 1e3), 3) for n in (1e5, 1e6, 1e7)], "towards 1/2")
for mean in (0.0, 0.1, 5.0):
    problem = slt.benchmarks.cubic_mean(mean)
    values = [round(problem.exact(n, 1e-3), 3) for n in (1e2, 1e4, 1e6, 1e8, 1e10)]
    print(f"cubic mean {mean:3}: {values}")

# %% [markdown]
# (Exact values at the temperature $n\beta = n$, with a localization that keeps each at its place.)
#
# ## Two trained networks
#
# Is a string of brackets nested? A network of 13,409 parameters learns it from a training set that leaves
# a hole: positives are nested, negatives have unequal numbers of brackets. Strings such as `)(` with equal
# numbers that are *not* nested never occur. Two rules fit perfectly, and differ on those:
#
# - **nested** says no to them;
# - **count** (as many opening as closing ones?) says yes.
#
# We made one network of each, three times, by training first *with* such strings, labelled by the rule, and
# then without them to the same small loss (`slt-notebook experiment brackets train`, a minute each).
# So this is a pair that was steered; which one training would choose by itself is another question.
#
# Two things to know. A first version of the pair, trained with cross-entropy to a loss of $3 \cdot 10^{-5}$, was
# discarded: its $\lambda$ was not stable, whatever the setting, which is why these minimise the squared error.
# And "the same small loss" is the same within a factor of about three, as the table shows.

# %%
from slt_notebook.toys import brackets

weights = dict(np.load("brackets.npz"))
data = brackets.probe()
x, y = (torch.from_numpy(v) for v in data.fields.values())
rows = []
for name, vector in weights.items():
    net = brackets.restore(vector)
    with torch.no_grad():
        loss = float(brackets.squared_error(net(x), y).mean())
    right = brackets.accuracy(net, 2000)
    rows.append((*name.split("_"), loss, right["training"], right["crossed"]))
columns = ["rule", "seed", "training loss", "right on training strings", "says no to unseen ones"]
pd.DataFrame(rows, columns=columns).sort_values("rule")

# %% [markdown]
# The training loss does not tell them apart; the strings that were left out do. Does $\lambda$?
#
# `brackets.nc` has the LLC of all six at three temperatures (`slt-notebook experiment brackets
# measure`: $\gamma = 10^4$, 3 chains × 60 draws after 40 steps; settings chosen on trials with seed 0, before these numbers).

# %%
found = xr.load_dataset("brackets.nc", engine="scipy")
found["rule"] = found["rule"].astype(str)
rows = []
for nbeta in found.nbeta.values:
    for seed in found.seed.values:
        one = found.sel(nbeta=nbeta, seed=seed)
        a, b = one.sel(rule="nested"), one.sel(rule="count")
        gap = float(a.llc - b.llc)
        error = float(np.hypot(a.mcse, b.mcse))
        rows.append(
            {
                "nβ": nbeta,
                "seed": int(seed),
                "nested": float(a.llc),
                "±": float(a.mcse),
                "count": float(b.llc),
                "± ": float(b.mcse),
                "difference / MCSE": gap / error,
                "virial": f"{float(a.virial):.2f}, {float(b.virial):.2f}",
            }
        )
table = pd.DataFrame(rows)
table.round(3)

# %%
for nbeta, part in table.groupby("nβ"):
    z = part["difference / MCSE"]
    sure = int((z.abs() > 3).sum())
    order = "nested has the higher λ" if (z > 0).all() else "count has" if (z < 0).all() else "no"
    print(
        f"nβ = {nbeta:g}: order {order!r}; beyond 3 MCSE in {sure} of {len(z)} pairs: {z.round(1).tolist()}"
    )

# %% [markdown]
# **A negative result.** At none of the three temperatures does $\lambda$ tell the rules apart: no pair differs
# by 3 standard errors, and the sign is not the same in the three seeds. What differs is the network from
# seed to seed, more than the rule. The chains are short (60 draws), and the error of the difference is
# about a third of the value, so that only a factor of two or more would be seen; two networks of one loss,
# opposite answers on unseen strings, and coefficients that agree within that. The temperatures were picked in
# trials with seed 0. There, $n\beta = 1000$ and a weaker localization left the basin (the loss rose to that of guessing), so
# there is no separating temperature to report for these pairs. A public replication with sorting networks does find one
# ($n\beta = 10$, $\gamma = 10^4$), and loses the order at $n\beta = 100$.
#
# One pair, sampled here (two chains, the middle temperature):

# %%
runs = {
    rule: slt.sample(
        brackets.loss(brackets.restore(weights[f"{rule}_0"])),
        data,
        kernel=slt.SGLD(2e-5),
        nbeta=100.0,
        gamma=1e4,
        chains=2,
        draws=40,
        burnin=40,
        batch_size=128,
    )
    for rule in brackets.RULES
}
for rule, run in runs.items():
    here = slt.llc(run)
    print(f"{rule}: {float(here['mean']):.3f} ± {float(here['mcse']):.3f}")

# %%
slt.TraceView(runs["nested"])

# %% [markdown]
# ## What it does not mean
#
# The lower $\lambda$ is not the better generalisation. In the sorting networks of a public replication the
# simpler solution is the one that fails on longer lists; here, which rule is "right" is a choice of ours.
# The order depends on the temperature and on the localization, so state both. And the posterior is a
# model of training: gradient descent is not Bayes.
