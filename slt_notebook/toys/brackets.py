"""Two solutions of one loss on strings of brackets: properly nested, or equal counts.

    slt-notebook experiment brackets train --out FILE.npz --seeds 0 1 2
    slt-notebook experiment brackets measure --networks FILE.npz --out FILE.nc

On the training set both rules give the same answers: its positives are nested, its negatives have
unequal counts.  Strings with equal counts that are not nested are left out; there `nested` says no
and `count` says yes.  A network of each rule is made by training it first with those strings,
labeled by its rule, and then without them until its loss is that of the other: two networks of
one architecture, one training set and one training loss that generalize differently.
References: the toy follows the parentheses of arXiv:2601.13548; the steering is ours.
"""

import numpy as np
import torch
from torch import Tensor, nn

from slt_notebook.errors import InputError, say
from slt_notebook.models.losses.supervised import SupervisedLoss, supervised
from slt_notebook.models.probes import Probe, array_probe
from slt_notebook.toys.in_context.model import Block

LENGTH = 16
RULES = ("nested", "count")
OPEN, CLOSE, END = 0, 1, 2


def nested(count: int, rng: np.random.Generator, length: int = LENGTH) -> np.ndarray:
    """Uniform nested strings `[count, length]` (0 opens, 1 closes), by the cycle lemma."""
    half = length // 2
    steps = np.tile(np.r_[np.ones(half + 1, int), -np.ones(half, int)], (count, 1))
    steps = rng.permuted(steps, axis=1)
    # The one rotation after the last minimum of the sums has positive sums throughout.
    sums = np.cumsum(steps, 1)
    start = length - sums[:, ::-1].argmin(1) + 1
    index = (start[:, None] + np.arange(length + 1)) % (length + 1)
    return (np.take_along_axis(steps, index, 1)[:, 1:] < 0).astype(np.int64)


def unequal(count: int, rng: np.random.Generator, length: int = LENGTH) -> np.ndarray:
    """Random strings whose brackets do not balance."""
    return _kept(count, lambda n: rng.integers(0, 2, (n, length)), lambda s: ~equal(s))


def crossed(count: int, rng: np.random.Generator, length: int = LENGTH) -> np.ndarray:
    """As many opening as closing brackets, but not nested: where the rules differ."""
    row = np.r_[np.zeros(length // 2, int), np.ones(length // 2, int)]
    make = lambda n: rng.permuted(np.tile(row, (n, 1)), axis=1)
    return _kept(count, make, lambda s: ~is_nested(s))


def equal(strings: np.ndarray) -> np.ndarray:
    """Return whether each string `[string, position]` has as many opening as closing brackets."""
    return strings.sum(1) * 2 == strings.shape[1]


def is_nested(strings: np.ndarray) -> np.ndarray:
    """Return whether each string `[string, position]` is properly nested, bool `[string]`."""
    return equal(strings) & (np.cumsum(1 - 2 * strings, 1) >= 0).all(1)


def _kept(count: int, make, good) -> np.ndarray:
    found = np.empty((0, make(1).shape[1]), int)
    while len(found) < count:
        new = make(2 * count)
        found = np.concatenate([found, new[good(new)]])
    return found[:count]


def batch(count: int, rng: np.random.Generator, rule: str | None = None) -> tuple[Tensor, Tensor]:
    """Strings and labels (1 or -1): half nested, half unequal; with a rule a third are crossed."""
    parts = 3 if rule else 2
    share = count // parts
    strings = [nested(share, rng), unequal(count - share * (parts - 1), rng)]
    labels = [np.ones(len(strings[0])), -np.ones(len(strings[1]))]
    if rule:
        strings.append(crossed(share, rng))
        labels.append(np.full(share, 1.0 if rule == "count" else -1.0))
    x = torch.from_numpy(np.concatenate(strings).astype(np.int64))
    return x, torch.from_numpy(np.concatenate(labels)).float()


class Network(nn.Module):
    """A causal transformer that reads a string and a last token, and answers there: 1 or -1."""

    def __init__(self, width: int = 32, layers: int = 2, heads: int = 4, length: int = LENGTH):
        super().__init__()
        self.embed = nn.Embedding(3, width)
        self.positions = nn.Parameter(torch.randn(length + 1, width) * 0.3)
        self.blocks = nn.ModuleList(Block(width, heads, True) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.say = nn.Linear(width, 1)
        mask = torch.full((length + 1, length + 1), -torch.inf).triu(1)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, strings: Tensor) -> Tensor:
        """Return the answers `[string]` (1 yes, -1 no) to `strings [string, position]`."""
        end = torch.full_like(strings[:, :1], END)
        h = self.embed(torch.cat([strings, end], 1)) + self.positions
        for block in self.blocks:
            h = block(h, self.mask)
        return self.say(self.norm(h[:, -1]))[:, 0]


def squared_error(answer: Tensor, label: Tensor) -> Tensor:
    """Half the squared error.

    Not a cross-entropy, whose minimum lies at infinite weights: a coefficient is about a minimum.
    """
    return (answer - label).square() / 2


def train(
    rule: str,
    seed: int = 0,
    steered: int = 1500,
    limit: int = 4000,
    goal: float = 1e-3,
    rate: float = 2e-3,
) -> Network:
    """Train a network of one rule, to the training loss `goal`; see the module.

    Args:
        rule: "nested" or "count".
        seed: of weights and data; a pair of rules with one seed starts from the same weights.
        steered: steps with the strings that tell the rules apart.
        limit: steps without them at most.
        rate: Adam's step size; an eighth of it once the steering ends.
        goal: training stops when the loss on a fixed set (looked at every 25 steps) is below it.

    Raises:
        InputError: another rule.
    """
    if rule not in RULES:
        raise InputError(say(f"rule={rule!r}", f"one of {RULES}", "pass rule='nested'"))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = Network()
    rng = np.random.default_rng(100 + seed)
    fixed = batch(2048, np.random.default_rng(7))
    optimizer = torch.optim.Adam(net.parameters(), lr=rate)
    for step in range(steered + limit):
        if step == steered:
            for group in optimizer.param_groups:
                group["lr"] = rate / 8
        x, y = batch(128, rng, rule if step < steered else None)
        optimizer.zero_grad()
        squared_error(net(x), y).mean().backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        if step >= steered and step % 25 == 0:
            with torch.no_grad():
                if float(squared_error(net(fixed[0]), fixed[1]).mean()) < goal:
                    break
    return net.eval()


@torch.no_grad()
def accuracy(net: nn.Module, count: int = 4000, seed: int = 1) -> dict[str, float]:
    """Share of strings called nested that are, on fresh training strings and on crossed ones."""
    rng = np.random.default_rng(seed)
    x, y = batch(count, rng)
    other = torch.from_numpy(crossed(count, rng).astype(np.int64))
    return {
        "training": float(((net(x) > 0) == (y > 0)).double().mean()),
        "crossed": float((net(other) < 0).double().mean()),  # the nested rule says no
    }


def loss(net: nn.Module) -> SupervisedLoss:
    """Half its squared error, for `slt.sample`."""
    return supervised(net, squared_error)


def probe(count: int = 4096, seed: int = 2) -> Probe:
    """Return the training distribution: strings on which the rules agree."""
    x, y = batch(count, np.random.default_rng(seed))
    return array_probe("agree", x, y)


def restore(vector: np.ndarray) -> Network:
    """Return a network from its weights as one vector."""
    net = Network()
    nn.utils.vector_to_parameters(torch.from_numpy(np.array(vector, np.float32)), net.parameters())
    return net.eval()
