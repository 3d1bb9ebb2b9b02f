"""`KernelMatrix`: the loss kernel in the order of a tree.

As in `InfluenceExplorer` the view carries the losses over draws, not a matrix: the browser makes
any block of it (widgets/src/maps/blocks.ts), so that 10,000 examples are an overview, a block or a
pair at will.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import traitlets
import xarray as xr
from scipy import stats

from slt_notebook import names
from slt_notebook.errors import InputError, say
from slt_notebook.estimators.array import moments
from slt_notebook.estimators.deprecated import UNIT, renamed
from slt_notebook.estimators.kernel.kernel_map import kernel_map
from slt_notebook.estimators.losses import gather
from slt_notebook.results import selection
from slt_notebook.results.result import Result, resolve
from slt_notebook.views.base import fallback
from slt_notebook.views.base.corpus import of_probe
from slt_notebook.views.base.linking import Focus
from slt_notebook.views.base.widget import HTML_LIMIT, View, check_trait, pack, refuse
from slt_notebook.views.notes.notes import Notes
from slt_notebook.views.text.influence_explorer import LEAST_DRAWS, STATE_BYTES, quantize

CLUSTERED = 4000
"""Examples that may be ordered by hierarchical clustering."""
_CUTS = (3, 12)
_ROWS = 12  # groups in the table without scripts


class KernelMatrix(View):
    """The kernel of a probe: open and close branches, go into a block, click a pair.

        R(x, x') = Corr(l(x), l(x'))        over draws from the local posterior

    Positive (orange) = alike: the two losses rise and fall together.  A cell of a closed branch is
    the mean over all its pairs.  A click on two single examples shows what a number of the kernel
    stands for: their two losses at every draw.

    Args:
        data: A run, or a probe Dataset.
        probe: Which probe, example ids, or a part of a probe; the only one if None.
        groups: The order: None clusters (average linkage of `1 - R`, at most 4,000 examples; else
            the probe's labels); or one label for each example; or several levels from the root
            down, `[["animal", ...], ["dog", ...]]`.
        names: What an example is called; by default its label and id.
        unit: "sequence" or "token".
        normalize: Begin with the correlation (True) or the covariance.
        pair: Ids of two examples whose draws are shown first.
        focus: A `Focus` to share.  notes: `slt.notes(run)`.
        title: Heading.

    Raises:
        InputError: Too many examples for a page at 50 draws, or groups of another length.
        Diverged: No chain with two finite draws.

    References: Adam et al. 2025 (arXiv:2509.26537).
    """

    _bundle = "matrix"
    payload = traitlets.Bytes(b"").tag(sync=True)
    meta = traitlets.Dict().tag(sync=True)
    normalize = traitlets.Bool(True).tag(sync=True)
    closed = traitlets.List(traitlets.Int()).tag(sync=True)
    pair = traitlets.List(traitlets.Int()).tag(sync=True)

    @renamed(**UNIT)
    def __init__(
        self,
        data: Any,
        *,
        probe: Any = None,
        groups: Any = None,
        names: Sequence[str] | None = None,
        unit: str = "sequence",
        normalize: bool = True,
        pair: Sequence[str] | None = None,
        focus: Focus | None = None,
        notes: Notes | None = None,
        title: str | None = None,
        **unknown: Any,
    ):
        refuse(unknown, KernelMatrix)
        check_trait(focus, Focus, "focus", "pass slt.Focus()")
        check_trait(notes, Notes, "notes", "pass slt.notes(run)")
        result = resolve(data)
        part = selection.pick(result, probe)
        ids, tokens, words, kept = _places(part, selection.check_unit(unit))
        if names is not None and len(names) != len(kept):
            raise InputError(say(f"{len(names)} names", f"{len(kept)}, one each", "align them"))
        traces, chain, thinned = _traces(result, part, unit, kept)
        levels, how = _levels(groups, result, part, unit, kept)
        order = np.lexsort(levels[::-1]) if levels else np.arange(int(kept.sum()))
        tree = _tree([np.asarray(one)[order] for one in levels[:-1]], len(order))
        q, sd = quantize(traces)
        peak = np.abs(traces.z).max(0) / 127
        chosen = np.flatnonzero(kept)[order]
        called = words if names is None else [str(x) for x in names]
        self._names = [called[k] for k in chosen]
        self._ids = [ids[k] for k in chosen]
        self._z = (traces.z * np.where(sd > 0, 1 / np.where(sd > 0, sd, 1), 0))[:, order]
        self._tree = tree
        self._freedom = traces.freedom
        groups_ = traces.groups
        unique = list(dict.fromkeys(self._ids))
        number = {name: i for i, name in enumerate(unique)}
        arrays = {
            "q": np.ascontiguousarray(q[order]), "sd": sd[order], "unit": peak[order].astype("f4"),
            "batches": np.array([*(g.start for g in groups_), groups_[-1].stop], "i4"),
            "chain": chain.astype("u1"), "names": self._names, "examples": unique,
            "example": np.array([number[name] for name in self._ids], "i4"),
            "token": np.array([tokens[k] for k in chosen], "i4"), "tree": tree,
        }  # fmt: skip
        remarks = [
            f"From {len(traces.z)} draws of {traces.chains} chains, centred per chain. "
            "Losses are stored at 8-bit precision (about 3 digits).",
            f"Standard errors from the spread between {len(groups_)} groups of draws.",
        ]
        if thinned > 1:
            remarks.append(f"Thinned: every {thinned}th draw, so that the view stays below 8 MB.")
        flat = int((sd == 0).sum())
        if flat:
            remarks.append(f"{flat} constant loss{'es' if flat > 1 else ''} excluded from means.")
        payload, meta = pack(
            arrays, title=title or "Loss kernel", draws=len(traces.z), chains=traces.chains,
            z=float(stats.t.ppf(0.975, max(1, len(groups_) - 1))), notes=remarks, order=how,
        )  # fmt: skip
        super().__init__(
            payload=payload, meta=meta, normalize=normalize, focus=focus or Focus(),
            notes=notes or Notes(), pair=self._find(pair),
            closed=_closed(tree) if len(order) > 240 else [],
        )  # fmt: skip

    def _find(self, pair: Sequence[str] | None) -> list[int]:
        if pair is None:
            return []
        known = {name: k for k, name in enumerate(self._ids)}
        wrong = next((p for p in pair if p not in known), None)
        if wrong is not None or len(pair) != 2:
            raise InputError(say(f"pair={pair!r}", "two example ids", f"such as {self._ids[:2]}"))
        return [known[p] for p in pair]

    def _blocks(self) -> tuple[list[str], np.ndarray]:
        """Mean correlation between the top branches (or the first examples, without any)."""
        top = [n for n in self._tree if n["depth"] == 0][:_ROWS]
        if len(top) < 2:
            z = self._z[:, :_ROWS]
            return self._names[:_ROWS], z.T @ z / self._freedom
        sums = np.stack([self._z[:, n["from"] : n["to"]].sum(1) for n in top], 1)
        alive = np.array([(np.abs(self._z[:, n["from"] : n["to"]]).sum(0) > 0).sum() for n in top])
        total = sums.T @ sums / self._freedom
        pairs = np.outer(alive, alive) - np.diag(alive)
        total -= np.diag(alive)
        return [n["name"] for n in top], total / np.where(pairs > 0, pairs, np.nan)

    def describe(self) -> str:
        """Return what the view shows, as plain text."""
        return (
            f"KernelMatrix: {len(self._names)} examples, {self.meta['draws']} draws; "
            f"order: {self.meta['order']}"
        )

    def fallback(self) -> str:
        """Return the view without scripts, as escaped HTML."""
        labels, value = self._blocks()
        rows = [
            (a, *(fallback.number(float(v), signed=True) for v in row))
            for a, row in zip(labels, value, strict=True)
        ]
        parts = [fallback.table("Mean correlation over pairs", ["", *labels], rows)]
        parts += [f"<p>{fallback.esc(text)}</p>" for text in self.meta["notes"]]
        return fallback.page(self.describe(), parts, HTML_LIMIT)


def _places(part: xr.Dataset, unit: str):
    """Ids, tokens and words of every series of the probe, and which of them are no padding."""
    corpus = of_probe(part)
    if unit == "sequence":
        labels = corpus.labels
        words = [f"{w} {e}" if w else e for w, e in zip(labels, corpus.examples, strict=True)]
        return list(corpus.examples), [0] * len(words), words, np.asarray(corpus.mask.any(1))
    kept = corpus.mask.reshape(-1)
    ids, tokens, words = [""] * len(kept), [0] * len(kept), [""] * len(kept)
    for k, at in enumerate(np.flatnonzero(kept)):
        ids[at] = corpus.examples[corpus.example_of(k)]
        tokens[at] = int(corpus.token[k])
        words[at] = f"{corpus.text[k]} {corpus.where(k)}"
    return ids, tokens, words, kept


def _traces(result: Result, part: xr.Dataset, unit: str, kept: np.ndarray):
    raw = gather(part[names.LOSS], unit=unit, skip=result.diverged)
    x = raw.x if kept.all() else raw.x[:, kept]
    step = max(1, -(-x.size // STATE_BYTES))
    if len(x) // step < min(LEAST_DRAWS, len(x)):
        raise InputError(
            say(
                f"{x.shape[1]} losses x {len(x)} draws",
                f"at most about {STATE_BYTES // LEAST_DRAWS} losses",
                "choose examples with probe=[...], or see slt.kernel_map and slt.EmbeddingMap",
            )
        )
    rows = np.concatenate(
        [np.flatnonzero(raw.chain == c)[step - 1 :: step] for c in np.unique(raw.chain)]
    )
    raw = moments.Raw(x[rows], raw.chain[rows], raw.draw[rows])
    _, number = np.unique(raw.chain, return_inverse=True)
    return moments.centre(raw), number, step


def _levels(groups, result, part, unit, kept) -> tuple[list[np.ndarray], str]:
    """Labels from the root down, the last one the position itself; and how they came about."""
    count = int(kept.sum())
    last = np.arange(count)
    if groups is not None:
        first = groups[0] if len(groups) else ""
        many = [groups] if isinstance(first, str) or np.ndim(first) == 0 else list(groups)
        many = [np.asarray(g).astype(str) for g in many]
        if any(g.shape != kept.shape for g in many):
            got = f"groups of shapes {[g.shape for g in many]}"
            raise InputError(say(got, f"{kept.shape}, one label each", "align them"))
        return [*(g[kept] for g in many), last], "the groups given"
    if count > CLUSTERED or count < 4:
        if names.LABEL in part and unit == "sequence":
            labels = np.asarray(part[names.LABEL].values).astype(str)[kept]
            return [labels, last], "the probe's labels (too many examples to cluster)"
        return [last], "as stored"
    return [*_clusters(result, part, unit, kept), last], "average linkage of 1 − correlation"


def _clusters(result: Result, part: xr.Dataset, unit: str, kept: np.ndarray) -> list[np.ndarray]:
    """Two levels of clusters, numbered along the dendrogram, and the leaf order as the third."""
    from scipy.cluster import hierarchy

    found = kernel_map(result, probe=part, modes=64, unit=unit).coordinate.values
    x = np.nan_to_num(found.reshape(-1, found.shape[-1]))[kept]
    r = np.clip(x @ x.T, -1, 1)
    upper = np.triu_indices(len(r), 1)
    links = hierarchy.linkage(np.maximum(1 - r[upper], 0), "average")
    leaves = hierarchy.leaves_list(links)
    rank = np.empty(len(leaves), int)
    rank[leaves] = np.arange(len(leaves))
    levels = []
    for cut in _CUTS:
        label = hierarchy.fcluster(links, min(cut, len(r)), "maxclust")
        first = {c: rank[label == c].min() for c in np.unique(label)}
        number = {c: i + 1 for i, c in enumerate(sorted(first, key=first.__getitem__))}
        wide = len(str(len(number)))
        levels.append(np.array([f"cluster {number[c]:0{wide}d}" for c in label]))
    return [*levels, rank]


def _tree(levels: list[np.ndarray], count: int) -> list[dict]:
    """Nodes over the ordered examples; labels of a level are split where a higher one changes."""
    nodes: list[dict] = []
    if levels and levels[-1].dtype.kind != "U":
        levels = levels[:-1]  # an order within the last groups, not a level of its own

    def grow(a: int, b: int, depth: int) -> list[int]:
        if depth == len(levels):
            return []
        here = []
        edges = [
            a,
            *(a + 1 + np.flatnonzero(levels[depth][a : b - 1] != levels[depth][a + 1 : b])),
            b,
        ]
        for i, j in itertools.pairwise(edges):
            k = len(nodes)
            one = {"name": str(levels[depth][i]), "from": int(i), "to": int(j), "depth": depth}
            nodes.append(one)
            here.append(k)
            nodes[k]["children"] = grow(int(i), int(j), depth + 1)
        return here

    if not grow(0, count, 0):
        nodes = [{"name": "all", "from": 0, "to": count, "depth": 0, "children": []}]
    return nodes


def _closed(tree: Sequence[Mapping]) -> list[int]:
    deepest = max(n["depth"] for n in tree)
    return [k for k, n in enumerate(tree) if n["depth"] == deepest and n["to"] - n["from"] > 1]
