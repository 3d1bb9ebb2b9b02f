"""`InfluenceExplorer`: click a token to see the influence of every other token on it.

The view carries not a matrix but the losses over draws themselves, centred per chain, in
8 bits: the browser computes any row from them (widgets/src/text/rows.ts), with no kernel.  The
numbers are those of `slt.influence`, errors included, up to the 8 bits.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import traitlets
import xarray as xr
from scipy import stats

from slt_notebook import names
from slt_notebook.errors import InputError, say
from slt_notebook.estimators import losses
from slt_notebook.estimators.array import moments
from slt_notebook.results import selection
from slt_notebook.results.result import Result, resolve
from slt_notebook.views.base import fallback
from slt_notebook.views.base.corpus import Corpus, join, of_probe
from slt_notebook.views.base.linking import Focus, place
from slt_notebook.views.base.widget import HTML_LIMIT, View, check_trait, pack, refuse
from slt_notebook.views.notes.notes import Notes
from slt_notebook.views.text.token_strip import robust_limit

STATE_BYTES = 8_700_000
"""Losses in int8 that a view may carry: about 8 MB once deflated."""
LEAST_DRAWS = 50
"""Rather than thin to fewer draws than this, the view refuses."""


@dataclass(frozen=True)
class Losses:
    """What the view knows: centred losses `[chain*draw, tokens + examples]`.

    The last columns are the sums of each example.  `ranked [examples]`: which ones are sources.
    """

    corpus: Corpus
    traces: moments.Traces
    ranked: np.ndarray
    thinned: int
    draws: int
    excluded: dict

    def column(self, k: int, normalize: bool) -> tuple[np.ndarray, np.ndarray]:
        """Influence of every token on token k and its standard error (exact, not from 8 bits)."""
        traces = moments.standardized(self.traces) if normalize else self.traces
        rows = slice(k, k + 1)
        value, error = moments.matrix(traces, traces, sign=-1.0, correlation=normalize, rows=rows)
        assert error is not None  # asked for by default
        return value[0], error[0]


class InfluenceExplorer(View):
    """Click a token: every other one is coloured by its influence on it.

        influence(q, t) = -Cov(loss_q, loss_t)      over draws from the local posterior

    or minus the correlation; **negative (blue) = helpful**: more weight on t lowers the expected
    loss of q (Kreer et al. 2025, arXiv:2509.26544).  Both can be shown at any time, and a row costs
    the browser milliseconds.  Tokens whose 95 % interval includes 0 are faded: standard errors come
    from the spread between chains (3 or more) or batches of draws, exactly as in `slt.influence`.

    Args:
        data: A run, its tree, or a probe Dataset.  Of a run all probes are shown unless `query`
            or `train` name one.
        query: The token to begin with, `("train/0", 17)`; or which examples to show beside the
            sources: a probe's name, example ids, or a Dataset.
        train: Which examples count as sources in the lists; a probe's name, example ids, or a
            Dataset; None: all.
        normalize: Begin with the correlation (True) or the covariance.
        focus: A `Focus` to share; its focused token is the query.
        notes: `slt.notes(run)`.
        title: Heading.

    Raises:
        InputError: Unknown names or keywords, or losses too large for a page at 50 draws.
        Diverged: No chain with two finite draws.
    """

    _bundle = "influence"
    payload = traitlets.Bytes(b"").tag(sync=True)
    meta = traitlets.Dict().tag(sync=True)
    normalize = traitlets.Bool(True).tag(sync=True)

    def __init__(
        self,
        data: Any,
        *,
        query: Any = None,
        train: Any = None,
        normalize: bool = True,
        focus: Focus | None = None,
        notes: Notes | None = None,
        title: str | None = None,
        **unknown: Any,
    ):
        refuse(unknown, InfluenceExplorer)
        check_trait(focus, Focus, "focus", "pass slt.Focus()")
        check_trait(notes, Notes, "notes", "pass slt.notes(run)")
        begin = query if isinstance(query, tuple) else None
        losses = gather(data, None if begin else query, train)
        focus = focus or Focus()
        if begin is not None:
            _check_token(losses.corpus, begin)
            focus.focus = place(*begin)
        self._losses = losses
        q, sd = quantize(losses.traces)
        groups = losses.traces.groups
        batches = np.array([*(g.start for g in groups), groups[-1].stop], "i4")
        arrays = losses.corpus.entries()
        arrays |= {"q": q, "sd": sd, "batches": batches, "ranked": losses.ranked.astype("u1")}
        self._start = loudest(losses)
        payload, meta = pack(
            arrays,
            title=title or "Influence",
            draws=int(q.shape[1]),
            z=float(stats.t.ppf(0.975, max(1, len(groups) - 1))),
            begin=losses.corpus.token[self._start].item(),
            begin_example=losses.corpus.examples[losses.corpus.example_of(self._start)],
            notes=remarks(losses),
        )
        super().__init__(
            payload=payload, meta=meta, normalize=normalize, focus=focus, notes=notes or Notes()
        )

    def _query(self) -> int:
        at = self.focus.focus if self.focus is not None else None
        found = self._losses.corpus.find(at["example"], at["token"]) if at else None
        return self._start if found is None else found

    def top(self, count: int = 10) -> list[tuple[int, float, float]]:
        """Return the most helpful tokens for the query: (flat index, influence, standard error)."""
        k = self._query()
        value, error = self._losses.column(k, self.normalize)
        corpus = self._losses.corpus
        order = np.argsort(np.nan_to_num(value[: len(corpus)], nan=np.inf))
        ranked = np.repeat(self._losses.ranked, np.diff(corpus.start))
        kept = [int(i) for i in order if i != k and value[i] < 0 and ranked[i]][:count]
        return [(i, float(value[i]), float(error[i])) for i in kept]

    def describe(self) -> str:
        """Return what the view shows, as plain text."""
        corpus, k = self._losses.corpus, self._query()
        rows = ", ".join(f"{corpus.text[i]!r} {fallback.number(v)}" for i, v, _ in self.top(5))
        return (
            f"InfluenceExplorer: {len(corpus)} tokens, {self._losses.traces.z.shape[0]} draws; "
            f"query {corpus.text[k]!r} ({corpus.where(k)}); most helpful: {rows or 'none'}"
        )

    def fallback(self) -> str:
        """Return the view without scripts, as escaped HTML."""
        corpus, k = self._losses.corpus, self._query()
        value, error = self._losses.column(k, self.normalize)
        value, error = value[: len(corpus)], error[: len(corpus)]
        sure = np.abs(value) > self.meta["z"] * error
        limit = robust_limit(np.delete(value, k))
        what = "−correlation" if self.normalize else "−covariance (nats²)"
        marks, listed = ([""] * len(corpus), [])
        if self.notes is not None:
            marks, listed = self.notes.placed(corpus)
        rows = []
        for i, v, e in self.top():
            head, word, tail = corpus.context(i)
            text = f"{head}[{word}]{tail}"
            rows.append((text, corpus.where(i), fallback.number(v), fallback.number(e)))
        heading = ["source in context", "where", what, "standard error"]
        parts = [
            fallback.table(
                f"Most helpful for {corpus.text[k]!r} ({corpus.where(k)})", heading, rows
            ),
            "".join(f"<p>{fallback.esc(text)}</p>" for text in self.meta["notes"]),
            fallback.notes_list(listed),
        ]
        for e, name in enumerate(corpus.examples):
            a, b = corpus.start[e], corpus.start[e + 1]
            parts.append(
                f"<p>{fallback.esc(name)}</p>"
                + fallback.tokens(
                    corpus.text[a:b],
                    value[a:b],
                    limit,
                    sure=sure[a:b],
                    first=corpus.first[e],
                    marks=marks[a:b],
                )
            )
        title = (
            f"{self.meta['title']} on {corpus.text[k]!r} ({corpus.where(k)}): {what}, "
            f"negative (blue) = helpful, colour range ±{limit:.3g}"
        )
        return fallback.page(title, parts, HTML_LIMIT)


def gather(data: Any, query: Any = None, train: Any = None) -> Losses:
    """Return the centred losses of everything on show, thinned to what a page can carry.

    Raises:
        InputError: More than `STATE_BYTES` at `LEAST_DRAWS` draws.
    """
    result = resolve(data)
    shown, sources = _choose(result, query, train)
    skip = result.diverged
    raws = [losses.gather(part[names.LOSS], skip=skip) for part in shown]
    for i in range(1, len(raws)):
        raws[0], raws[i] = moments.common(raws[0], raws[i])
    for i in range(1, len(raws) - 1):
        raws[i], raws[-1] = moments.common(raws[i], raws[-1])
    parts = [of_probe(part) for part in shown]
    corpus = parts[0] if len(parts) == 1 else join(parts)
    x = np.concatenate([r.x[:, p.mask.ravel()] for r, p in zip(raws, parts, strict=True)], axis=1)
    raw = moments.Raw(x, raws[0].chain, raws[0].draw)
    series = len(corpus) + len(corpus.examples)
    step = max(1, -(-series * len(x) // STATE_BYTES))
    if len(x) // step < min(LEAST_DRAWS, len(x)):
        fits = STATE_BYTES // LEAST_DRAWS
        raise InputError(
            say(
                f"{len(corpus)} tokens in {len(corpus.examples)} examples x {len(x)} draws",
                f"at most about {fits} tokens, at which {LEAST_DRAWS} draws make "
                f"{STATE_BYTES / 1e6:.1f} MB",
                "choose examples, as in InfluenceExplorer(run, train=['train/0', 'train/1'])",
            )
        )
    excluded = {**skip, **_absent(shown[0], raw, skip)}
    kept = np.concatenate(
        [np.flatnonzero(raw.chain == c)[step - 1 :: step] for c in np.unique(raw.chain)]
    )
    raw = moments.Raw(raw.x[kept], raw.chain[kept], raw.draw[kept]) if step > 1 else raw
    total = np.add.reduceat(raw.x.astype("f8"), np.minimum(corpus.start[:-1], len(corpus) - 1), 1)
    wide = np.concatenate([raw.x, total], axis=1)
    traces = moments.centre(moments.Raw(wide, raw.chain, raw.draw))
    ranked = np.array([sources is None or e in sources for e in corpus.examples])
    return Losses(corpus, traces, ranked, step, len(x), excluded)


def _choose(result: Result, query: Any, train: Any) -> tuple[list[xr.Dataset], set[str] | None]:
    """Return the probes to show, sources first, and the ids of the sources (None: all)."""
    if query is None and train is None:
        shown = [result.probe(name) for name in result.probe_names]
        return shown or [result.probe()], None
    sources = selection.pick(result, train)
    ids = {str(e) for e in sources[names.EXAMPLE].values}
    if query is None:
        return [sources], ids
    rows = selection.pick(result, query)
    other = [i for i, e in enumerate(rows[names.EXAMPLE].values) if str(e) not in ids]
    shown = [sources, rows.isel({names.EXAMPLE: other})] if other else [sources]
    return shown, ids


def _absent(data: xr.Dataset, raw: moments.Raw, skip: dict) -> dict:
    """Chains without two finite draws."""
    size = data.sizes[names.CHAIN]
    labels = data[names.CHAIN].values if names.CHAIN in data.coords else np.arange(size)
    return {
        int(labels[c]): "no two finite draws"
        for c in range(size)
        if (raw.chain == c).sum() < 2 and labels[c] not in skip
    }


def quantize(traces: moments.Traces) -> tuple[np.ndarray, np.ndarray]:
    """Return centred losses as int8 `[series, chain*draw]`, and their standard deviations (f4).

    The largest value of each series is at ±127.  The scale cancels in a correlation; a covariance
    is correlation * sd * sd.  The rounding is uniform, so its effect on a correlation over D draws
    is about sqrt(2 / 12 / D) * max|z| / (127 sd): 1e-3 and below.
    """
    z = traces.z
    q = np.empty((z.shape[1], z.shape[0]), "i1")
    for i in range(0, z.shape[1], 1024):
        part = z[:, i : i + 1024]
        peak = np.abs(part).max(0)
        q[i : i + 1024] = np.rint(part * (127 / np.where(peak > 0, peak, 1))).T
    return q, np.nan_to_num(traces.sd).astype("f4")


def loudest(losses: Losses) -> int:
    """Where to begin: the token whose loss varies most."""
    return int(np.argmax(np.nan_to_num(losses.traces.sd[: len(losses.corpus)])))


def remarks(losses: Losses) -> list[str]:
    """Return what a reader must know of how the numbers were made."""
    traces = losses.traces
    rows, chains, groups = len(traces.z), traces.chains, len(traces.groups)
    between = f"{groups} chains" if groups == chains else f"{groups} batches of successive draws"
    said = [
        f"From {rows} draws of {chains} chain{'s' if chains > 1 else ''}, centred per chain. "
        "Losses are stored at 8-bit precision (about 3 digits).",
        f"Standard errors from the spread between {between}; a 95 % interval is ± "
        f"{stats.t.ppf(0.975, max(1, groups - 1)):.2f} of them.",
        "An example's influence is that of the sum of its tokens' losses.",
    ]
    if losses.thinned > 1:
        said.append(
            f"Thinned: every {losses.thinned}th of {losses.draws} draws, so that the view stays "
            "below 8 MB."
        )
    flat = int(traces.flat[: len(losses.corpus)].sum())
    if flat:
        said.append(f"{flat} token{'s' if flat > 1 else ''} with a constant loss: no influence.")
    said += [f"Excluded: chain {c} ({why})." for c, why in losses.excluded.items()]
    return said


def _check_token(corpus: Corpus, query: tuple) -> None:
    if len(query) != 2 or corpus.find(*query) is None:
        known = corpus.where(0).replace(" · ", "', ")
        raise InputError(
            say(f"query={query!r}", "(example id, token index) on show", f"such as ('{known})")
        )
