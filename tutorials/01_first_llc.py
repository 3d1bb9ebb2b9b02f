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
# # Your first local learning coefficient
#
# The local learning coefficient (LLC, 2308.12108) measures how degenerate a minimum of the loss is:
#
# $$\hat\lambda = n\beta \left(E[L(w)] - L(w^*)\right), \qquad
# w \sim \exp\left(-n\beta L(w) - \frac{\gamma}{2} |w - w^*|^2\right)$$
#
# We estimate one whose value is known, see how the estimate can go wrong, and then take a language
# model.
#
# ## A problem with a known answer
#
# Linear regression in six dimensions. Its loss is a quadratic with curvatures $h_i$, so everything is
# known in closed form, the effect of the step size $\epsilon$ included:
#
# $$\lambda = \sum_i \frac{n\beta h_i}{2 a_i \left(1 - \epsilon a_i / 4\right)}, \qquad
# a_i = n\beta h_i + \gamma$$

# %%
import numpy as np
import torch

import slt_notebook as slt

rng = np.random.default_rng(0)
x = rng.standard_normal((200, 6)) * np.array([1.7, 1.4, 1.0, 0.7, 0.5, 0.3])
y = x @ rng.standard_normal(6) + 0.5 * rng.standard_normal(200)
w_star = np.linalg.lstsq(x, y, rcond=None)[0]
curvature = np.linalg.eigvalsh(x.T @ x / len(x))


def squared_error(params, batch):
    return (batch["inputs"] @ params["w"] - batch["targets"]).square() / 2


loss = slt.loss_fn({"w": torch.tensor(w_star)}, squared_error)
data = slt.array_probe("regression", x, y)


def exact(nbeta, gamma, step):
    a = nbeta * curvature + gamma
    return float((nbeta * curvature / (2 * a) / (1 - step * a / 4)).sum())


# %%
nbeta, gamma, step = 30.0, 1.0, 0.005
run = slt.sample(
    loss,
    data,
    kernel=slt.SGLD(step),
    nbeta=nbeta,
    gamma=gamma,
    chains=4,
    draws=1000,
    burnin=200,
    batch_size=len(data),  # all of the data: the gradient is exact
)
estimate = slt.llc(run)
low, high = estimate["interval"].values
print(f"estimate {float(estimate['mean']):.3f} ± {float(estimate['mcse']):.3f} (MCSE)")
print(f"95 % interval {low:.3f} to {high:.3f};   exact {exact(nbeta, gamma, step):.3f}")

# %%
slt.TraceView(run)

# %% [markdown]
# The chains start at $w^*$, where the difference of the losses is 0, rise and level off. What comes
# before they level off is the burn-in.
#
# ## Three ways to be wrong
#
# **The localization.** A regular model with $d$ parameters has $\lambda = d/2 = 3$. We found less,
# because $\gamma$ holds the chains in the flattest directions. The value tends to 3 as
# $\gamma / n\beta \to 0$; it is the question that changed, not the estimator.

# %%
for g in (0.01, 0.1, 1.0, 5.0, 20.0):
    print(f"gamma {g:5.2f}: exact value {exact(nbeta, g, step):.3f}")

# %% [markdown]
# **The step.** Steps that are too large widen the stationary distribution. The formula above says by how
# much; a real model has no such formula, so look at the checks: the virial ratio deviates from 1 and the
# acceptance rate falls. One run can hold several settings: hyperparameters are numbers *or one per
# chain*.

# %%
steps = (0.0025, 0.01, 0.03)
sweep = slt.sample(
    loss,
    data,
    kernel=slt.SGLD(steps),
    nbeta=nbeta,
    gamma=gamma,
    chains=3,
    draws=1000,
    burnin=400,
    batch_size=len(data),
)
by_chain = slt.llc(sweep)["llc_chain"].values
sampling = sweep.tree["sampling"].to_dataset()
virial = sampling.virial[:, 400:].mean("step").values
accept = sampling.accept.mean("draw").values
for s, found, v, a in zip(steps, by_chain, virial, accept, strict=True):
    print(
        f"step {s:6.4f}: LLC {found:.2f} (exact {exact(nbeta, gamma, s):.2f}), "
        f"virial {v:.2f}, acceptance {a:.2f}"
    )

# %% [markdown]
# One chain is not enough: the smallest step has the smallest bias and the largest error, because its
# draws are the least independent.
#
# **The noise of the batches.** With small batches the loss of a batch jumps from step to step, whether
# or not the weights moved. The kit subtracts the loss of *the same batch* at $w^*$, so that most of
# that noise cancels. A language model shows how much it matters.
#
# ## A language model
#
# `tiny-lm` ships with the kit: two layers, attention only, trained until it shows induction. Any causal
# language model of Hugging Face works the same way: `slt.load("/path/or/hub-id")`.

# %%
model, tokenizer = slt.load("tiny-lm")
texts = slt.probe_texts("tiny-lm")
train = slt.text_probe("train", texts, tokenizer, length=128)
train

# %%
run = slt.sample(
    slt.causal_lm(model),
    train,
    kernel=slt.SGLD(2e-5),
    nbeta=1000.0,
    gamma=3000.0,
    chains=2,
    draws=80,
    burnin=80,
    batch_size=16,
)
run

# %%
slt.health(run)

# %%
paired, unpaired = slt.llc(run), slt.llc(run, unpaired=True)
print(f"paired    {float(paired['mean']):.0f} ± {float(paired['mcse']):.0f}")
print(f"unpaired  {float(unpaired['mean']):.0f} ± {float(unpaired['mcse']):.0f}")

# %% [markdown]
# Two chains of 160 steps are a small sample, as the interval shows. The value is far below $d/2$ (half
# of 410,624 parameters): at this temperature most directions do not matter to the loss.
#
# ## Before training and after
#
# The LLC is meant for comparisons at one setting. A checkpoint from early in training:

# %%
early, _ = slt.load("tiny-lm", revision="step633")
before = slt.sample(
    slt.causal_lm(early), train, kernel=slt.SGLD(2e-5), nbeta=1000.0, gamma=3000.0, chains=2,
    draws=60, burnin=60, batch_size=16,
)  # fmt: skip
for name, one in (("step 633", before), ("step 24000", run)):
    found = slt.llc(one)
    print(f"{name:>10}: {float(found['mean']):.0f} ± {float(found['mcse']):.0f}")

# %% [markdown]
# **Check yourself.** The stated interval of the first estimate should contain the exact value (it does
# so in about 95 of 100 seeds; `tests/test_figures.py` counts them).

# %%
margin = 4 * float(
    estimate["mcse"]
)  # four standard errors: one reader in ten thousand sees it fail
assert abs(float(estimate["mean"]) - exact(nbeta, gamma, step)) < margin
