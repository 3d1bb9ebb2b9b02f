"""The same work in each library: every side is a function (draws, empty folder) -> None.

Same chains, batch, draws, probe tokens, step size, nbeta and localization.  The kit and devinterp
measure the probe at every draw and write a Zarr store.  devinterp gets one batch for its initial
loss (its default is 32 a chain).  posteriors and canonical-interp have neither probes nor a store:
they only walk, and are compared with runs without probes.
"""

import copy
import functools
import importlib
import itertools
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

import slt_notebook as slt
from slt_notebook.models.components.catalog import parts
from tests.bench.parts.models import Work
from tests.bench.parts.rounds import Side

OURS, DEVINTERP, POSTERIORS, CANONICAL = (
    "slt-notebook", "devinterp", "posteriors", "canonical-interp",
)  # fmt: skip
NBETA, GAMMA = 30.0, 300.0


def ours(work: Work, chains: int, component: str, probes: bool, **options) -> Side:
    """One `slt.sample`; `options` go to it as they are."""

    def side(draws: int, folder: Path) -> None:
        probe = work.chosen(probes)
        slt.sample(
            slt.causal_lm(work.model), slt.token_probe("data", work.data), components=component,
            probes=[] if probe is None else [slt.token_probe("probe", probe)],
            kernel=slt.SGLD(work.size.step), nbeta=NBETA, gamma=GAMMA, chains=chains, draws=draws,
            batch_size=work.size.batch, store=folder / "run.zarr", device=work.device,
            progress=False, **options,
        )  # fmt: skip

    return side


def devinterp(work: Work, chains: int, component: str, probes: bool) -> Side:
    """`devinterp.slt.sampling.sample`."""
    sample = _silent("devinterp.slt.sampling").sample
    restriction = None if component == "full" else masks(work.model, component)

    def side(draws: int, folder: Path) -> None:
        sample(
            work.model, rows(work.data), _observables(work, probes), param_masks=restriction,
            num_draws=draws, output_path=str(folder / "theirs"), **_settings(work, chains),
        )  # fmt: skip

    return side


def posteriors(work: Work, chains: int) -> Side:
    """`posteriors.sgmcmc.sgld`, chain after chain; nothing is written.

    Its step is `w + lr g + sqrt(2 lr T) xi` with `g` the gradient of -L - gamma/(2 nbeta)|w-w*|^2:
    lr = step nbeta / 2 and T = 1 / nbeta make it the step of the others.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own state classes warn at import
        build = importlib.import_module("posteriors").sgmcmc.sgld.build
    center = {k: v.detach().clone() for k, v in work.model.named_parameters()}

    def log_posterior(params, batch):
        logits = functional_call(work.model, params, (batch,), {"use_cache": False}).logits
        loss = next_token_loss(logits, batch)
        away = sum((p - center[k]).square().sum() for k, p in params.items())
        return -loss - GAMMA / (2 * NBETA) * away, loss.detach()

    def side(draws: int, folder: Path) -> None:
        transform = build(log_posterior, lr=work.size.step * NBETA / 2, temperature=1 / NBETA)
        for chain in range(chains):
            torch.manual_seed(chain)
            state = transform.init({k: v.clone() for k, v in center.items()})
            losses = []
            for batch in itertools.islice(batches(work), draws):
                state, loss = transform.update(state, batch, inplace=True)
                losses.append(loss)
            torch.stack(losses).cpu()

    return side


def canonical(work: Work, chains: int) -> Side:
    """`canonical_interp.LLCEstimator`, chains batched by vmap, its own step compiled.

    Version 0.1.5 claims Python 3.10 but imports `itertools.batched` (3.12); it is lent one, which
    it does not call here.  Its initial loss is a pass over all data with gradients, once a call.
    """
    if not hasattr(itertools, "batched"):
        itertools.batched = None
    try:
        estimator = importlib.import_module("canonical_interp").LLCEstimator
    finally:
        if itertools.batched is None:
            del itertools.batched
    wrapped = _Logits(work.model)

    def side(draws: int, folder: Path) -> None:
        ids = torch.from_numpy(work.data)
        loader = torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(ids), batch_size=work.size.batch, shuffle=True
        )
        estimator(
            draws, chains, 0, 1, learning_rate=work.size.step, localization=GAMMA, nbeta=NBETA
        ).estimate_llc(
            wrapped, loader, next_token_loss, devices=work.device, compile=False, seed=0,
            unpack_fn=lambda batch: (batch[0], batch[0]), show_progress=False,
        )  # fmt: skip

    return side


def heads(work: Work, chains: int, names: Sequence[str]) -> dict[str, Side]:
    """Susceptibilities of heads and the full run they need, on both sides."""

    def kit(draws: int, folder: Path) -> None:
        found = slt.sample(
            slt.causal_lm(work.model), slt.token_probe("data", work.data),
            components=["full", *names], probes=[slt.token_probe("probe", work.probe)],
            kernel=slt.SGLD(work.size.step), nbeta=NBETA, gamma=GAMMA, chains=chains, draws=draws,
            batch_size=work.size.batch, store=folder / "sweep", device=work.device, progress=False,
        )  # fmt: skip
        # A chi needs two draws; a round that warms up may have one.
        if draws > 1:
            slt.susceptibility(found, estimator="two-chain")

    sides: dict[str, Side] = {OURS: kit}
    susceptibilities = _silent("devinterp.slt.susceptibilities").susceptibilities
    restrictions = {"full": None, **{name: masks(work.model, name) for name in names}}

    def theirs(draws: int, folder: Path) -> None:
        susceptibilities(
            work.model, rows(work.data), _observables(work, True), restrictions,
            sampling_task="probe", include_sampling_task=True, num_draws=draws,
            output_path=str(folder / "theirs"), **_settings(work, chains),
        )  # fmt: skip

    return sides | {DEVINTERP: theirs}


def available(work: Work, chains: int, component: str, probes: bool) -> tuple[dict, dict]:
    """The sides that can do this work, and why the others cannot."""
    makers = {DEVINTERP: lambda: devinterp(work, chains, component, probes)}
    out, why = {OURS: ours(work, chains, component, probes)}, {}
    if component == "full" and not probes:
        makers |= {
            POSTERIORS: lambda: posteriors(work, chains),
            CANONICAL: lambda: canonical(work, chains),
        }
    for name, make in makers.items():
        try:
            out[name] = make()
        except ImportError as cause:
            why[name] = f"not installed (group `bench`): {cause}"
    return out, why


def masks(model: nn.Module, name: str) -> dict[str, torch.Tensor]:
    """A component of the kit as devinterp's masks: it does not know every architecture."""
    out = {}
    wanted = parts(model)[name].pieces
    for key, value in model.named_parameters():
        pieces = [piece for piece in wanted if piece.name == key]
        if pieces:
            out[key] = torch.zeros_like(value)
            for piece in pieces:
                out[key][piece.slices] = 1
    return out


def rows(ids):
    """Token ids as the dataset that devinterp takes."""
    from datasets import Dataset

    return Dataset.from_dict({"input_ids": ids.tolist()}).with_format("torch")


def batches(work: Work) -> Iterator[torch.Tensor]:
    """Batches in an order drawn anew each time round, for ever."""
    ids = torch.from_numpy(work.data).to(work.device)
    while True:
        for part in torch.randperm(len(ids)).split(work.size.batch):
            yield ids[part.to(ids.device)]


def next_token_loss(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    flat = logits[:, :-1].reshape(-1, logits.shape[-1])
    return F.cross_entropy(flat, ids[:, 1:].reshape(-1))


def _observables(work: Work, probes: bool) -> dict:
    count = len(work.probe) // work.size.batch
    return {"probe": (rows(work.probe), count)} if probes else {}


def _settings(work: Work, chains: int) -> dict:
    return {
        "lr": work.size.step, "n_beta": NBETA, "localization": GAMMA, "num_chains": chains,
        "batch_size": work.size.batch, "num_init_loss_batches": 1, "device": str(work.device),
    }  # fmt: skip


def _silent(module: str):
    """A module of devinterp, whose progress bars are off."""
    sampler = importlib.import_module("devinterp.slt.sampler")
    if not isinstance(sampler.trange, functools.partial):
        sampler.trange = functools.partial(sampler.trange, disable=True)
    return importlib.import_module(module)


class _Logits(nn.Module):
    """A causal LM whose output is its logits, with the attention that `vmap` can batch."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = copy.deepcopy(model)
        if hasattr(self.model, "set_attn_implementation"):
            self.model.set_attn_implementation("eager")

    def forward(self, ids):
        return self.model(input_ids=ids, use_cache=False).logits
