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
# # One head at a time: refined LLCs
#
# The LLC of a whole network is one number. Let only the weights of one *component* move, a head say, and
# keep all others at their trained values: the LLC of that restricted posterior is the **weight-refined
# LLC** (2410.02984). Sampled on code instead of the training mix, it is **data-refined** as well:
#
# $$\hat\lambda(C, q') = n\beta \left(E_C[L_{q'}(w)] - L_{q'}(w^*)\right)$$
#
# ## What are the components?

# %%
import numpy as np
import pandas as pd
import xarray as xr

import slt_notebook as slt

model, tokenizer = slt.load("tiny-lm")
slt.components(model)

# %% [markdown]
# No table of architectures is behind this: the heads of any Hugging Face causal LM are found by one
# backward pass each, and then verified (the pieces tile the attention exactly once, and moving the
# weights of one head moves its slot alone). `slt.sample` takes these names, globs over them
# (`"l*.h*"`), unions (`"l0.attn+l1.attn"`) and parameter names (`"param:*q_proj*"`).
#
# ## A sweep
#
# A *list* of components is a sweep: one run per component, in one folder, each resumable. All runs use
# the same batches. Layers before a component are computed once. Here are two heads, few draws.

# %%
texts = slt.probe_texts("tiny-lm")
train = slt.text_probe("train", {k: v[2:] for k, v in texts.items()}, tokenizer, length=128)
sweep = slt.sample(
    slt.causal_lm(model),
    train,
    components=["l1.h0", "l1.h1"],
    kernel=slt.SGLD(step_size=5e-5),
    nbeta=2000.0,
    gamma=1500.0,
    batch_size=8,
    chains=2,
    draws=15,
    burnin=15,
    progress=False,
)
live = slt.refined_llc(sweep)
live[["llc", "mcse", "rho_loc"]].to_dataframe()[["llc", "mcse", "rho_loc"]].round(2)

# %% [markdown]
# ## All heads, sampled longer
#
# The rest of this notebook opens shipped results (`heads/`, made by
# `slt-notebook experiment tiny-lm-heads`): one setting for everything, since only values of one setting may
# be compared.

# %%
from slt_notebook.estimators.components.moments import load

final = load("heads/final.zarr").isel(checkpoint=0)
focus = slt.Focus()
slt.ComponentGrid(
    final[["llc", "mcse", "rho_loc"]],
    focus=focus,
    scale="sequential",
    limit=100.0,
    title="Refined LLC of every head",
)

# %% [markdown]
# Read the order, not the size. And read `rho_loc` (choose it in the picker): the rise of the loss over
# the rise under localization noise alone. Here it is .76 to .87, so **most of each number is the
# curvature that localization noise probes around the minimum; only the rest reflects the posterior**.
# The setting is the best that was found with this budget, not a good one: a larger $n\beta/\gamma$ would
# bring it down to the desired .3 to .7, at the cost of slower mixing.

# %%
heads = [c for c in final.component.values if c != "full"]
table = final.sel(component=heads)[["llc", "mcse", "rhat", "rho_loc"]].to_dataframe()
table[["llc", "mcse", "rhat", "rho_loc"]].round(2)

# %% [markdown]
# ## Over training
#
# The same at six checkpoints of the training (two chains each). A boundary of a stage is a zero of
# $d\hat\lambda / d\log t$; `sure` says whether both neighbouring slopes differ from 0 by two standard
# errors. The lines below mark the boundaries of `l1.h0`: drag them (or use the arrow keys), add some by
# double click, and read in the table what changed between them. Click a name to highlight one head.

# %%
training = load("heads/training.zarr")
stage = slt.stages(training, component="l1.h0", smooth=0)
slt.StageCurves(training, stages=stage, focus=focus, title="Refined LLC over training")

# %%
found = {c: slt.stages(training, component=c, smooth=0) for c in heads}
rows = [
    (c, round(float(s)), str(k), bool(u))
    for c, one in found.items()
    for s, k, u in zip(one["step"].values, one["kind"].values, one["sure"].values, strict=True)
]
pd.DataFrame(rows, columns=["component", "step", "boundary", "sure"])

# %% [markdown]
# Do heads of the same kind have curves of the same shape? With eight curves a clustering is weak
# evidence, so look at several normalizations and at the silhouettes (1: clear, 0: none) before believing
# one.

# %%
rows = {}
for normalize in ("none", "standardize", "minmax"):
    for k in (2, 3):
        c = slt.cluster_curves(training, k, normalize=normalize)
        rows[normalize, k] = {
            **c["cluster"].to_pandas().to_dict(),
            "mean silhouette": round(c.attrs["mean_silhouette"], 2),
        }
pd.DataFrame(rows).T

# %% [markdown]
# ## Code against prose
#
# Data refinement: the same heads, sampled *and* measured on code (Python source and documentation,
# SQL documentation) or on prose (novels, scripture, speeches) alone.

# %%
data = load("heads/datasets.zarr").isel(checkpoint=0)
both = data["llc"].to_pandas().T
both["code - prose"] = both["code"] - both["prose"]
both["s.e. of it"] = np.sqrt((data["mcse"] ** 2).sum("dataset")).to_pandas()
both.round(1)

# %% [markdown]
# Two things to see. All values are far below those on the mix: $w^*$ is a minimum for the mix, not for
# code or prose alone, so a chain can *lower* the loss of one of them, which makes the estimate smaller.
# And the largest difference in favour of code belongs to `l1.h0`, the induction head, as one would
# expect where identifiers recur; with two chains this is only a hint.

# %% [markdown]
# ## Token by token, and the circuit
#
# The refined LLC is the mean of a **token-resolved** one, $\hat\lambda_k(C) = n\beta(E_C[\ell_k] -
# \ell_k(w^*))$: which tokens get worse when only this head moves? Choose a head in the grid above or in
# the picker; the views are linked. The 95 % interval of a faded token includes 0.

# %%
moments = load("heads/response.zarr")
tokens = slt.refined_llc(moments).isel(checkpoint=0).sel(component=heads)
slt.component_strip(
    tokens.isel(example=slice(0, 6)),
    focus=focus,
    difference=("l1.h0", "l1.h1"),
    title="Token-resolved refined LLC",
)

# %% [markdown]
# Averaged over kinds of tokens (`slt.token_tags`; tags are this kit's working definitions):

# %%
tags = slt.token_tags(tokens)
by_tag = slt.by_tag(tokens["llc"], tags, tokens["stderr"])
slt.ComponentGrid(by_tag["mean"].rename("llc"), error=by_tag["stderr"], tokens=tokens["llc"],
                  focus=focus, title="Refined LLC by kind of token")  # fmt: skip

# %% [markdown]
# **Does it find the heads that attention patterns identify?** By attention, `l1.h0` is the one induction
# head, and in layer 0 only `h0` does not look at the previous token:

# %%
from slt_notebook.toys.heads import attention_scores

attention_scores().round(2)

# %% [markdown]
# The test: standardize the values of each token per head, subtract each token's mean over the heads
# of its layer, and look at the signs of the first principal component. It should split the layer as
# attention does. The rule was fixed after layer 1 of seed 0 had been seen, and before layer 0 and the
# seeds 1 and 2 were. By chance a layer of four is split in a given way in one of seven cases.


# %%
def first_component(estimate, layer):
    names = [c for c in estimate.component.values if c.startswith(f"l{layer}.")]
    one = slt.center_token(slt.zscore(estimate.sel(component=names)))
    pca = slt.response_pca(one)
    loading = pca["loading"].isel(pc=0).to_pandas()
    return loading, float(pca["explained"][0]), float(pca["agreement"][0])


seeds = load("heads/seeds.zarr").isel(checkpoint=0)
seeds = [tokens, *(seeds.sel(seed=s, drop=True) for s in seeds.seed.values)]
expected = {0: {"l0.h0"}, 1: {"l1.h0"}}
rows, held = {}, {}
for seed, estimate in enumerate(seeds):
    for layer in (0, 1):
        loading, explained, agreement = first_component(estimate, layer)
        alone = set(loading.index[loading < 0])
        same = alone == expected[layer] or set(loading.index) - alone == expected[layer]
        held[seed, layer] = same
        rows[f"seed {seed}, layer {layer}"] = {
            **{f"h{i}": round(float(v), 2) for i, v in enumerate(loading)},
            "explained": round(explained, 2),
            "same split": same,
            "split half": round(agreement, 2),
        }
pd.DataFrame(rows).T

# %%
print(f"the split of attention: {sum(held.values())} of {len(held)} times")
loadings = {
    layer: np.stack([first_component(s, layer)[0].values for s in seeds]) for layer in (0, 1)
}
for layer, x in loadings.items():
    print(f"layer {layer}, |cosine| of the first components of the seeds:",
          np.abs(x @ x.T)[np.triu_indices(3, 1)].round(2))  # fmt: skip

# %% [markdown]
# **This did not hold.** The signs split the layer as attention does in three of six cases, and the
# split-half agreement of the first component reaches our preset threshold of .8 in three of six. All
# three successes require the odd head to be the only one of its sign, and small loadings change sign
# from seed to seed. (Seen afterwards, so not a test: in five of six cases the head with the *largest*
# loading is the odd one.) The seeds 1 and 2 have 30 draws a chain, seed 0 has 75. Single-token values
# are mostly noise; their split-half correlations:

# %%
pd.DataFrame(
    {
        "as it is": slt.reliability(tokens).to_pandas(),
        "standardized, token-centred": slt.reliability(
            slt.center_token(slt.zscore(tokens))
        ).to_pandas(),
    }
).round(2)

# %% [markdown]
# ## The control
#
# At $n\beta = 0$ there is no loss: draws come from the localization alone, whose distribution is known
# exactly (`nbeta=0` draws from it). What looks the same there does not come from the posterior. The mean
# rise of the loss per head, sampled against control, and the correlation over tokens:

# %%
control = load("heads/control.zarr").isel(checkpoint=0).sel(component=heads)
treated = moments.isel(checkpoint=0).sel(component=heads)
rise = (treated["mean_loss"] - treated["init_loss"]).mean("piece")
bare = (control["mean_loss"] - control["init_loss"]).mean("piece")
pd.DataFrame(
    {
        "rise": rise.mean(("example", "token")).to_pandas(),
        "without a loss": bare.mean(("example", "token")).to_pandas(),
        "correlation over tokens": xr.corr(rise, bare, ("example", "token")).to_pandas(),
    }
).round(3)

# %%
as_estimate = lambda x: xr.Dataset({"llc": x, "llc_halves": xr.concat([x, x], "half")})
for layer in (0, 1):
    loading, _, _ = first_component(as_estimate(bare), layer)
    print(f"without a loss, layer {layer}:", loading.round(2).to_dict())

# %% [markdown]
# The split of layer 0 also appears in the control. So at this setting a refined LLC is mainly
# $n\beta\,\mathrm{tr}(H_C) / 2\gamma$: how sharply the loss curves in the directions of the head. That
# can distinguish heads, but it is curvature, not yet degeneracy.
#
# **Check yourself.** The mean of the token-resolved values is the refined LLC on these texts. The shown
# texts are not those that were sampled on, so the two agree in size, not exactly.

# %%
means = tokens["llc"].mean(("example", "token")).to_pandas()
sampled = final["llc"].sel(component=heads).to_pandas()
assert np.corrcoef(means, sampled)[0, 1] > 0.5
pd.DataFrame({"on the shown texts": means, "sampled": sampled}).round(1)
