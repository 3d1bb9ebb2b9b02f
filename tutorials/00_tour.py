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
# # A tour of a finished run
#
# Someone sampled the weights of a small language model and sent you the result. This notebook opens
# it. Nothing is sampled here, and no model is loaded: what you see follows from one folder,
# `tour.zarr`, which ships beside this notebook (`make_tour_run.py` is the script that made it).
#
# **What was sampled.** Training found one point $w^*$ in the space of weights. Around it, some
# directions change the loss at once and others hardly at all. *Singular learning theory* measures that
# geometry. A run draws weights from the *local posterior*
#
# $$p(w) \propto \exp\left(-n\beta L(w) - \frac{\gamma}{2} |w - w^*|^2\right)$$
#
# and keeps the loss of every token at every draw. All views below are made of those losses.

# %%
import slt_notebook as slt

tree = slt.open_run("tour.zarr")
tree

# %% [markdown]
# `tree` is an ordinary `xarray.DataTree`: `sampling` holds one series per chain, `probe/domains` the
# loss of every token of fourteen short texts, one from each of the twelve domains that the model was
# trained on, and two that repeat themselves.
#
# ## Can it be trusted?
#
# Look at the health of a run before you look at anything else. Each check says what it measures, and
# what to do when it fails.

# %%
slt.health(tree)

# %% [markdown]
# - `virial` is $E[(w - w^*) \cdot \nabla U] / \dim$. In equilibrium it is exactly 1 for the exact
#   dynamics, and a little more for steps of finite size.
# - `rho_loc` compares the rise of the loss with the rise that pure localization noise would give. Near 1
#   a number measures the noise rather than the posterior; far below 1 the loss constrains the chains.
#   Above 1 the chains are too hot: the steps are too large for the batch noise.
# - `acceptance` is the share of steps that a Metropolis test would accept on the step's own batch.
#
# ## The chains
#
# Each line is one chain: the loss of its batch less the loss of *the same batch* at $w^*$. Drag the
# blue handle to choose another burn-in (or focus it and use the arrow keys). The local learning
# coefficient (LLC) is $n\beta$ times the mean level.

# %%
focus = slt.Focus()
notes = slt.notes("tour.zarr")
slt.TraceView(tree, focus=focus)

# %%
estimate = slt.llc(tree)
print(f"LLC {float(estimate['mean']):.0f} ± {float(estimate['mcse']):.0f} (MCSE)")
estimate

# %% [markdown]
# An LLC depends on $n\beta$, $\gamma$ and the step size. Compare it with numbers of the same setting,
# never with a number of another one.
#
# ## The tokens
#
# How much does the loss of each token rise around the minimum? Orange tokens depend on finely tuned
# weights. Faded tokens have a 95 % interval that includes 0. Hover a token, click to select it, move
# with the arrow keys, press `?` for the other keys.

# %%
slt.TokenStrip(tree, focus=focus, notes=notes, title="Loss gain")

# %% [markdown]
# ## Influence
#
# Two tokens whose losses rise and fall together over the draws depend on the same weights. The Bayesian
# influence of one on the other is $-\mathrm{Cov}(\ell_i, \ell_j)$: **negative is helpful**, because
# up-weighting one would lower the loss of the other.
#
# Click any token. The view computes its influence on every other one here in the page; it needs no
# kernel, and goes on working in the file that you export below. The views share one focus: what you
# click here is marked in the strip above.
#
# **Try this**: in the text labelled `repeated`, click a word of a late repetition. Which tokens, and
# of which repetition, does the posterior tie to it?

# %%
slt.InfluenceExplorer(tree, focus=focus, notes=notes, query=("domains/12", 60))

# %% [markdown]
# The same numbers in Python, with standard errors:

# %%
influence = slt.influence(tree, unit="sequence", normalize=True)
influence["influence"].to_pandas().round(2)

# %% [markdown]
# ## Write a note, and send it
#
# Press `a` on a token to write a note there. From Python:

# %%
notes.add(
    example="domains/12",
    tokens=(56, 62),
    text="Repeated text: the induction head should tie these to the earlier copies.",
    author="the tour",
    tags=["induction"],
)
notes

# %% [markdown]
# Notes are W3C Web Annotations in a text file beside the run; `slt-notebook notes merge` joins those
# of several people. To send the whole notebook, annotated and interactive, as one file that opens
# without Python and without a network:
#
# ```
# slt-notebook export 00_tour.ipynb --execute
# ```
#
# **Check yourself.** The mean of the traces after the burn-in, times $n\beta$, is the LLC:

# %%
sampling = tree["sampling"].to_dataset()
after = sampling.step >= sampling.attrs["burnin"]
by_hand = (sampling.nbeta * (sampling.loss - sampling.init_loss).where(after)).mean()
assert abs(float(by_hand) / float(estimate["mean"]) - 1) < 1e-4
float(by_hand)
