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
# # Influence: which training examples push a loss down?
#
# Give a training example $i$ a little more weight. How does the expected loss of a query $q$ change?
# Under the local posterior the answer is a covariance (Kreer et al. 2025, 2509.26544), the **Bayesian
# influence function**:
#
# $$\mathrm{BIF}(i, q) = -\mathrm{Cov}_{w \sim p}\left[\ell_i(w),\ \ell_q(w)\right]$$
#
# **The sign: negative = helpful.** More weight on $i$ lowers the loss of $q$. No Hessian is inverted and
# no gradient of a query is taken: one run, and forward passes.
#
# ## Influence of tokens
#
# The finished run of tutorial 00 holds the loss of every token at every draw. The loss of a sequence is
# a sum over tokens and a covariance is linear in each side, so *every token* has an influence on every
# other one. Before any ranking: is this matrix reliable enough to rank?

# %%
import numpy as np
import xarray as xr

import slt_notebook as slt

tree = slt.open_run("tour.zarr")
slt.screen(tree)[["check", "value", "uncertainty", "verdict", "meaning", "do"]]

# %% [markdown]
# The screens look at what a covariance is made of: do losses drift in time (a drifting chain makes all
# losses correlate), do the chains agree, how many effective draws do the *products* have, and how many
# pairs can be told from 0 at all. A warning is not a reason to stop; it is a reason to read single
# entries with their standard errors and to prefer sums.

# %%
slt.InfluenceExplorer(tree, normalize=True)

# %%
from slt_notebook.estimators.influence.influence import top_sources

example = str(tree["probe/domains"].example.values[0])
top = top_sources(tree, example, 20, k=8, normalize=True, order="helpful")
for where, token, value, error in zip(
    top.example_.values,
    top.token_text_.values,
    top.influence.values,
    top.stderr.values,
    strict=True,
):
    print(f"{value:+.2f} ± {error:.2f}  {str(token)!r} in {where}")

# %% [markdown]
# The first is the token itself: minus a correlation of 1. `top_sources` streams from the store, for
# training sets larger than memory.
#
# ## Influence of images
#
# 300 digits of 8 × 8 pixels, a tenth with wrong labels, and a network of 1,810 weights. The training set
# and 100 unseen digits are the two probes of one run.

# %%
import torch

from slt_notebook.toys.retraining import digits_problem

problem = digits_problem()
params = {name: value[0] for name, value in problem.fit().items()}
run = slt.sample(
    problem.loss(params), problem.train, probes=[problem.train, problem.query],
    kernel=slt.SGLD(8e-4), nbeta=1000.0, gamma=100.0, chains=16, draws=60, burnin=75, thin=10,
    batch_size=300,
)  # fmt: skip
found = slt.influence(run, query="query", train="train", unit="sequence")
print(found.influence.dims, dict(found.sizes))

# %%
given = problem.train.fields["targets"]
wrong = problem.facts["wrong"]
truth = problem.query.fields["targets"]
same = given[None] == truth[:, None]
mean = lambda mask: float(found.influence.values[mask].mean())
print(f"same given label, right:  {mean(same & ~wrong):+.2e}  (helpful)")
print(f"other label, right:       {mean(~same & ~wrong):+.2e}")
print(f"same given label, wrong:  {mean(same & wrong):+.2e}")
harm = found.influence.mean("example").values
print(
    "of the 15 most harmful on average,",
    int(wrong[np.argsort(-harm)[:15]].sum()),
    "have a wrong label",
)

# %% [markdown]
# Digits that *look like another class* but carry the query's label help most: each of them supports that
# label where little else does. On average over all queries the wrong labels are harmful.
#
# The training digits placed by their influence on the 100 queries, with their pictures:

# %%
columns = found.influence.rename(example="query", example_="example").transpose("example", "query")
slt.EmbeddingMap(
    slt.embed(columns.drop_vars(["label", "label_"], errors="ignore"), "pca"),
    colors={
        "given label": given.astype(str),
        "planted": np.where(wrong, "wrong label", "right label"),
        "mean influence": harm,
    },
    images=problem.train.fields["inputs"].reshape(-1, 8, 8),
    title="300 training digits by their influence on the queries",
)

# %% [markdown]
# ## Does it predict retraining?
#
# That is what an influence should do. The test: train on random subsets $S$, sum the scores of the
# examples in $S$, and ask how well the sums *rank* the retrained models by their loss on each query
# (Spearman). Averaged over queries this is the **linear datamodeling score** (LDS). The 900 retrained
# networks (three fractions, 100 subsets, three initializations) ship in `influence_retrained.nc`; they
# take a few minutes (`slt.toys.retrain(digits_problem())`).

# %%
retrained = xr.load_dataset("influence_retrained.nc", engine="scipy")
retrained["mask"] = retrained["mask"].astype(bool)
from slt_notebook.toys import attribution

here = slt.toys.lds(
    scores={
        "gradient dot product": attribution.gradient_dot(problem, params),
        "exact influence, damping 0.1": attribution.exact_influence(problem, params, [0.1])[0.1],
        "BIF, the short run above": found,
    },
    retrained=retrained,
)
here[["lds", "stderr"]].to_dataframe().round(3).unstack()

# %% [markdown]
# `damping 0.1` is no coincidence. To first order the BIF at $(n\beta, \gamma)$ is the influence function
# damped by $\lambda = \gamma / n\beta$, here $100 / 1000$. The short run is noisy; a long one agrees.
# Everything in one run, with its cost (`slt-notebook experiment lds out.nc`):

# %%
whole = xr.load_dataset("influence_lds.nc", engine="scipy")
slt.lds_chart(whole)

# %%
table = whole["lds"].to_pandas().round(3)
table["CPU seconds"] = whole["seconds"].to_pandas().round(1)
table

# %% [markdown]
# **What this says** (the three columns are models trained on 20, 50 and 80 % of the data):
#
# - **At equal damping the long BIF agrees with the exact influence function**: .608 / .634 / .587 against
#   .592 / .620 / .585, all within .02, without a Hessian.
# - **The screens chose** $\gamma = 30$, the smallest of 300, 100, 30, 10 whose short run did not fail. With
#   14,400 draws it scores .638 / .680 / .628. EK-FAC scores .621 / .675 / .652: the paired differences
#   are +.017 ± .011, +.005 ± .011 and −.023 ± .012, so neither is better.
# - **But EK-FAC takes two seconds and the BIF two minutes.** On a network this small the factors cost
#   nothing. The paper's claim of speed is about models of billions of weights, which we have not tried.
#   And the exact influence with damping .01 is better than both; at that $\gamma$ (10) the chains do not
#   mix, and the screens say so.
# - **Smaller $\gamma$ needs more draws.** 3,200 draws at $\gamma = 10$ score below those at $\gamma = 30$:
#   less bias, more noise.
# - **The correlation is not the covariance.** It wins for small subsets (.695 at 20 %) and loses badly for
#   large ones (.456 at 80 %). For retraining take the covariance unless you know better.
# - The paper finds that the BIF beats EK-FAC for small subsets. Of the covariance that is not shown here
#   (1.5 standard errors); of the correlation it is.
# - TRAK is meant for averages over many models; five reach .41 to .54. `ceiling` is what other
#   initializations of the same subset predict.

# %% [markdown]
# ## For other tools

# %%
path = slt.to_scores(found, "digits_scores.safetensors")
print(path, "(positive = helpful there: the sign is turned)")

# %% [markdown]
# **Check yourself.**

# %%
assert here.lds.sel(attribution="BIF, the short run above").min() > 0.3
assert torch.is_tensor(params["w1"])
