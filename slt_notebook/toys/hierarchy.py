"""Influence that changes sign while a linear network learns a hierarchy, in closed form.

Eight items, the leaves of a binary tree; the target of an item says which of the 15 nodes lie above
it.  A two-layer linear network learns the splits one after the other, from the root down (Saxe et
al. 2019, arXiv:1810.10531), and everything about it can be computed: influence while it trains, in
closed form; leaving an item out; leaving it out for a while; and the posterior's covariance.

Conventions: `[query, train]`, negative = helpful, as everywhere in the kit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr

from slt_notebook.errors import InputError, say
from slt_notebook.models.losses.function import FunctionLoss, loss_fn
from slt_notebook.models.probes import Probe, array_probe

Array = np.ndarray
ITEMS = ("dog", "cat", "sparrow", "robin", "rose", "lily", "oak", "pine")
SPLITS = ("everything", "animal / plant", "mammal / bird, flower / tree", "item / item")
RANKS = np.array([0, 1, 2, 2, 3, 3, 3, 3])  # which split each mode is, largest first


def targets() -> Array:
    """`Y [15 nodes, 8 items]`; singular values sqrt 15, sqrt 7, sqrt 3 twice, 1 four times."""
    rows = [np.ones(8)]
    for width in (4, 2, 1):
        rows += [np.repeat(np.arange(8 // width) == k, width) for k in range(8 // width)]
    return np.array(rows, float)


@dataclass(frozen=True)
class Hierarchy:
    """A two-layer linear network on the eight items, trained by gradient descent.

        L(w) = 1/8 sum_i |y_i - W2 W1 x_i|^2 / 2,   x_i one-hot

    Attributes:
        hidden: width.
        start: a_0, the strength of every mode at the beginning.
        lr: step size of gradient descent.
        steps: how many.
        every: steps between checkpoints.
        init: "aligned" (balanced along the singular vectors, for which the closed forms hold) or
            "random" (Gaussian of the same size).
        seed: of the initialization.
    """

    hidden: int = 16
    start: float = 1e-3
    lr: float = 0.05
    steps: int = 1200
    every: int = 20
    init: str = "aligned"
    seed: int = 0

    @property
    def checkpoints(self) -> Array:
        """Steps at which weights are kept: 0, every, 2 every, ..."""
        return np.arange(0, self.steps + 1, self.every)

    def decomposition(self) -> tuple[Array, Array, Array]:
        """`U [15, 8], s [8], V [8, 8]` of the targets, in the basis of the tree.

        Singular values repeat; the tree's own contrasts (left child less right child) are the basis
        in which each mode is one split.
        """
        contrasts = [np.ones(8)]
        for width in (4, 2, 1):
            for k in range(4 // width):
                c = np.zeros(8)
                c[2 * k * width : (2 * k + 1) * width] = 1
                c[(2 * k + 1) * width : (2 * k + 2) * width] = -1
                contrasts.append(c)
        v = np.array([c / np.linalg.norm(c) for c in contrasts]).T
        image = targets() @ v
        s = np.linalg.norm(image, axis=0)
        return image / s, s, v

    def initial(self) -> tuple[Array, Array]:
        """`W1 [hidden, 8], W2 [15, hidden]`."""
        rng = np.random.default_rng(self.seed)
        if self.init == "random":
            # Each entry so small that a mode starts at about `start`.
            scale = np.sqrt(self.start / self.hidden)
            return tuple(
                scale * rng.standard_normal(n) for n in ((self.hidden, 8), (15, self.hidden))
            )
        if self.init != "aligned":
            raise InputError(
                say(f"init={self.init!r}", "'aligned' or 'random'", "pass one of the two")
            )
        u, _, v = self.decomposition()
        r = np.linalg.qr(rng.standard_normal((self.hidden, 8)))[0]
        root = np.sqrt(self.start)
        return root * r @ v.T, root * u @ r.T

    def train(
        self, weights: Array | None = None, shift: Array | None = None
    ) -> tuple[Array, Array]:
        """Gradient descent on every row of `weights [run, (step,) item]` at once.

        Args:
            weights: of the items' losses, 1 by default; with a step axis they change in time.
            shift: `[run, 15, 8]`, added to the input-output correlation (`Y` times the weights)
                alone, as the closed form assumes.

        Returns:
            `W1 [run, checkpoint, hidden, 8], W2 [run, checkpoint, 15, hidden]`.
        """
        y = targets()
        given = weights if weights is not None else shift
        runs = 1 if given is None else len(given)
        each = np.ones((runs, 8)) if weights is None else np.asarray(weights, float)
        w1, w2 = (np.broadcast_to(w, (runs, *w.shape)).copy() for w in self.initial())
        kept1, kept2 = [w1.copy()], [w2.copy()]
        for step in range(1, self.steps + 1):
            now = each[:, step - 1] if each.ndim == 3 else each
            gap = (y - w2 @ w1) * now[:, None, :]
            if shift is not None:
                gap = gap + shift
            d1, d2 = w2.transpose(0, 2, 1) @ gap, gap @ w1.transpose(0, 2, 1)
            w1 = w1 + self.lr / 8 * d1
            w2 = w2 + self.lr / 8 * d2
            if step % self.every == 0:
                kept1.append(w1.copy())
                kept2.append(w2.copy())
        return np.stack(kept1, 1), np.stack(kept2, 1)

    def losses(self, w1: Array, w2: Array) -> Array:
        """Return `|y_i - W2 W1 x_i|^2 / 2` of every item, `[..., item]`."""
        return ((targets() - w2 @ w1) ** 2).sum(-2) / 2

    def _labeled(self, values: Array, name: str) -> xr.DataArray:
        """`[checkpoint, query, train]` with its names."""
        coords = {"step": self.checkpoints, "example": list(ITEMS), "example_": list(ITEMS)}
        about = {"sign": "negative = helpful", "stderr": "exact"}
        return xr.DataArray(values, coords, ("step", "example", "example_"), name, about)

    # What is known in closed form -----------------------------------------------------------------

    def strength(self, step: Array | float, s: Array | float, slope: bool = False) -> Array:
        """`g(t) = s e^{2st/tau} / (e^{2st/tau} - 1 + s / a_0)`, t = lr step, tau = 8; or dg/ds."""
        t = np.asarray(step, float) * self.lr / 8
        a = self.start
        # In terms of q = e^{-2 s t}, which does not overflow: g = s / (1 - q + q s / a).
        q = np.exp(-2 * s * t)
        bottom = 1 - q + q * s / a
        if not slope:
            return s / bottom
        change = 2 * t * q - 2 * t * q * s / a + q / a
        return 1 / bottom - s * change / bottom**2

    def half_times(self) -> Array:
        """Step at which each mode has half of its strength: `tau / (2 s lr) ln(s / a_0 - 1)`."""
        _, s, _ = self.decomposition()
        return 8 / (2 * s * self.lr) * np.log(s / self.start - 1)

    def analytic(self) -> xr.DataArray:
        """Influence of a little more weight on an item, in closed form (aligned initialization).

        Perturb the correlation by `eps y_p x_p'`.  With `M = U' y_p x_p' V` and g the strengths,
        `dW/deps = U D V' + (I - UU') y_p (V'x_p * g/s)' V'`, where `D_kk = g'(s_k) M_kk`,

            D_jk = [M_jk (s_k g_k - s_j g_j) + M_kj (s_j g_k - s_k g_j)] / (s_k^2 - s_j^2),

        and for equal s `D_jk = (M_jk + M_kj) g' / 2 + (M_jk - M_kj) g / (2 s)`.  Then

            influence(q, p) = -(y_q - W x_q)' dW/deps x_q.

        (The singular-value perturbation of the lecture notes on Lee et al. 2025, corrected: their
        rotation of the two bases alone is not the derivative.)  Source: arXiv:2510.12071.
        """
        u, s, v = self.decomposition()
        y = targets()
        found = np.zeros((len(self.checkpoints), 8, 8))
        for c, step in enumerate(self.checkpoints):
            g, slope = self.strength(step, s), self.strength(step, s, slope=True)
            residual = y - (u * g) @ v.T
            for p in range(8):
                m = np.outer(u.T @ y[:, p], v[p])
                change = u @ _derivative(m, s, g, slope) @ v.T
                outside = y[:, p] - u @ (u.T @ y[:, p])
                change += np.outer(outside, (v[p] * g / s) @ v.T)
                found[c, :, p] = -np.einsum("oq,oq->q", residual, change)
        return self._labeled(found, "analytic")

    def finite_difference(self, size: float = 1e-4, correlation_only: bool = True) -> xr.DataArray:
        """Return the same by training with a little more and a little less of each item.

        Args:
            size: by how much the weight of an item is raised and lowered.
            correlation_only: perturb `Y X'` alone, as the closed form does; else the whole loss of
                the item, its `X X'` too.
        """
        found = []
        for sign in (1, -1):
            if correlation_only:
                shift = np.zeros((8, 15, 8))
                for p in range(8):
                    shift[p, :, p] = sign * size * targets()[:, p]
                w = self.train(shift=shift)
            else:
                w = self.train(np.ones((8, 8)) + sign * size * np.eye(8))
            found.append(self.losses(*w))  # [train, checkpoint, query]
        return self._labeled(((found[0] - found[1]) / (2 * size)).transpose(1, 2, 0), "difference")

    def leave_one_out(self) -> xr.DataArray:
        """`l_q(D) - l_q(D without p)` at every checkpoint; negative: p helps q."""
        without = self.losses(*self.train(1 - np.eye(8)))
        return self._labeled(
            (self.losses(*self.train()) - without).transpose(1, 2, 0), "leave_one_out"
        )

    def window(self, item: str, width: int = 100) -> xr.DataArray:
        """Return the same where the item is missing for `width` steps only, measured at their end.

        Dims (start, example).
        """
        p = ITEMS.index(item)
        begins = np.arange(0, self.steps - width + 1, width)
        weights = np.ones((len(begins), self.steps, 8))
        for r, a in enumerate(begins):
            weights[r, a : a + width, p] = 0
        with_it = self.losses(*self.train())[0]
        without = self.losses(*self.train(weights))
        ends = (begins + width) // self.every
        value = with_it[ends] - without[np.arange(len(begins)), ends]
        coords = {"start": begins, "example": list(ITEMS)}
        about = {"sign": "negative = helpful", "item": item, "width": width}
        return xr.DataArray(value, coords, ("start", "example"), "window", about)

    # The posterior --------------------------------------------------------------------------------

    def closed_form(self, w1: Array, w2: Array, step_size: float = 0.0, gamma: float = 1.0):
        """Bayesian influence at strong localization, gamma >> nbeta |H|.

            influence(q, p) = -(e_q . e_p) (h_q . h_p) / gamma / (1 - step gamma / 4),   q != p

        e the residual, h = W1 x: a shared hidden code times residuals that agree or not.  For q = p
        `|W2' e|^2` joins `|h|^2 |e|^2`.  (First order in 1 / gamma; the last factor is the exact
        bias of SGLD with that step.)

        Args:
            w1: of one training, `[checkpoint, hidden, 8]`.
            w2: of the same training, `[checkpoint, 15, hidden]`.
            step_size: of SGLD; 0 is the exact posterior.
            gamma: strength of the localization.

        Returns:
            DataArray (step, example, example_).
        """
        e = targets() - w2 @ w1
        code = np.einsum("chq,chp->cqp", w1, w1)
        agree = np.einsum("coq,cop->cqp", e, e)
        found = agree * code
        back = w2.transpose(0, 2, 1) @ e
        i = np.arange(8)
        found[:, i, i] += (back**2).sum(1)
        return self._labeled(-found / gamma / (1 - step_size * gamma / 4), "closed_form")

    def posterior(self, w1: Array, w2: Array, at: Array) -> tuple[FunctionLoss, Probe]:
        """All checkpoints `at` (their indices) as one loss, for one call of `slt.sample`.

        The networks share no weights and their losses add, so the joint posterior is the product of
        theirs: one chain samples all checkpoints at once.  Sample with `nbeta=len(at) * nbeta`
        (the mean is over the examples of all checkpoints) and all of the data as one batch.
        """
        at = np.asarray(at)
        steps = self.checkpoints[at]
        y = torch.tensor(targets(), dtype=torch.float32)
        count = len(at)

        def function(params, batch):
            e = y - params["w2"] @ params["w1"]
            loss = e.square().sum(-2).reshape(-1) / 2  # [checkpoint * item]
            return loss[batch["inputs"].long()]

        rows = np.arange(count * 8)
        probe = array_probe(
            "items", rows, rows, [f"step{t}/{item}" for t in steps for item in ITEMS]
        )
        start = {"w1": torch.tensor(w1[at]), "w2": torch.tensor(w2[at])}
        return loss_fn(start, function), probe

    def influence_of(self, found: xr.Dataset, at: Array, name: str = "influence") -> xr.Dataset:
        """Of an `influence` Dataset of `posterior`'s probe, the blocks within checkpoints.

        Returns:
            Dataset `influence, stderr (step, example, example_)`.
        """
        n = len(at)
        picked = {}
        for key in ("influence", "stderr"):
            whole = found[key].values.reshape(n, 8, n, 8)
            picked[key] = (("step", "example", "example_"), whole[np.arange(n), :, np.arange(n), :])
        coords = {"step": self.checkpoints[at], "example": list(ITEMS), "example_": list(ITEMS)}
        return xr.Dataset(picked, coords, dict(found.attrs))


def _derivative(m: Array, s: Array, g: Array, slope: Array) -> Array:
    """D of `analytic`."""
    d = np.empty_like(m)
    for j in range(len(s)):
        for k in range(len(s)):
            if abs(s[j] - s[k]) < 1e-9:
                d[j, k] = (m[j, k] + m[k, j]) * slope[k] / 2 + (m[j, k] - m[k, j]) * g[k] / s[k] / 2
            else:
                top = m[j, k] * (s[k] * g[k] - s[j] * g[j]) + m[k, j] * (s[j] * g[k] - s[k] * g[j])
                d[j, k] = top / (s[k] ** 2 - s[j] ** 2)
    return d
