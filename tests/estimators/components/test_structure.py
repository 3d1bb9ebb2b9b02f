"""PCA, tags, clusters, patterning: planted structure is found, and its controls lose it."""

import numpy as np
import pytest
import xarray as xr

import slt_notebook as slt
from slt_notebook.estimators.components.tags import TAGS


def planted(tokens=240, components=6, groups=3, noise=0.1, seed=0):
    """chi with `groups` kinds of tokens; ids are independent of the kind."""
    rng = np.random.default_rng(seed)
    kind = np.arange(tokens) % groups
    centres = rng.standard_normal((groups, components)) * 2
    halves = centres[kind] + noise * rng.standard_normal((2, tokens, components))
    shape = (12, tokens // 12)
    arrange = lambda v: np.moveaxis(v.reshape(*v.shape[:-2], *shape, components), -1, -3)
    dims = ("component", "example", "token")
    ids = rng.integers(0, 5, shape)
    return xr.Dataset(
        {
            "chi": (dims, arrange(halves.mean(0))),
            "chi_halves": (("half", *dims), arrange(halves)),
        },
        {
            "component": [f"l0.h{i}" for i in range(components)],
            "example": [f"e/{i}" for i in range(12)],
            "token": np.arange(1, shape[1] + 1),
            "token_id": (("example", "token"), ids),
            "token_text": (("example", "token"), np.array(list("abcde"))[ids]),
        },
    ), kind.reshape(shape)  # fmt: skip


def test_pca_is_the_svd_and_halves_agree_on_structure_alone():
    chi, _ = planted(groups=2)
    found = slt.response_pca(chi)
    table = chi["chi"].transpose("example", "token", "component").values.reshape(-1, 6)
    values = np.linalg.eigvalsh(np.cov(table.T))[::-1]
    np.testing.assert_allclose(found["explained"], values / values.sum(), rtol=1e-6, atol=1e-12)
    rebuilt = (found["score"] * found["loading"]).sum("pc") + chi["chi"].mean(("example", "token"))
    np.testing.assert_allclose(rebuilt, chi["chi"].transpose(*rebuilt.dims), atol=1e-6)
    assert found["explained"][0] > 0.9 and found["agreement"][0] > 0.999
    assert abs(found["agreement"][-1]) < 0.999
    chi["chi"][0, 3, 4] = np.nan
    assert np.isnan(slt.response_pca(chi)["score"][0, 3, 4])


def text_probe(rows):
    ids = {w: i for i, w in enumerate(dict.fromkeys(w for r in rows for w in r))}
    length = max(map(len, rows))
    text = np.array([r + [""] * (length - len(r)) for r in rows])
    number = np.array([[ids.get(w, 0) for w in r] for r in text])
    return xr.Dataset(
        {
            "token_text": (("example", "token"), text[:, 1:]),
            "token_id": (("example", "token"), number[:, 1:]),
            "first_id": ("example", number[:, 0]),
        },
        {"token": np.arange(1, length)},
    )


def test_tags_follow_their_rules():
    rows = [
        ["x", " be", "gin", "ning", " (", "42", ")", "\n", "    ", " end", "x", " be", "##"],
        ["a", " b"],
    ]
    tags = slt.token_tags(text_probe(rows))
    assert tags["tag"].values.tolist() == list(TAGS)
    of = {
        (w, k): {str(t) for t in tags["tag"].values if bool(tags.sel(tag=t, token=k)[0])}
        for k, w in enumerate(rows[0])
        if k
    }
    assert of[" be", 1] == {"word start"} and of["gin", 2] == {"word part"}
    assert of["ning", 3] == {"word end"} and of[" (", 4] == {"left delimiter"}
    assert of["42", 5] == {"numeric"} and of[")", 6] == {"right delimiter"}
    assert of["\n", 7] == {"spacing"} and of["    ", 8] == {"spacing"}
    assert of[" be", 11] == {"induction"} and of["##", 12] == {"formatting"}
    assert not tags.isel(example=1, token=slice(1, None)).any()
    value = xr.DataArray(np.arange(24.0).reshape(2, 12), dims=("example", "token"))
    table = slt.by_tag(value, tags, stderr=value * 0 + 1)
    assert float(table["mean"].sel(tag="spacing")) == pytest.approx((6 + 7) / 2)
    assert float(table["stderr"].sel(tag="spacing")) == pytest.approx(1 / np.sqrt(2))


def test_planted_clusters_are_found_and_the_shuffle_loses_them():
    chi, kind = planted()
    found = slt.clusters(chi, k=10, conductance=0.2)
    label = found["cluster"].values
    assert found.sizes["cluster_id"] == 3 and (label >= 0).all()
    for number in range(3):
        assert len(set(kind[label == number])) == 1
    assert found["conductance"].max() < 0.01
    shuffled = slt.same_token_shuffle(chi)
    ids = chi["token_id"].values
    for token in range(5):  # the vectors of an id stay with that id
        a = np.sort(chi["chi"].values[0][ids == token])
        assert np.array_equal(a, np.sort(shuffled["chi"].values[0][ids == token]))
    lost = slt.clusters(shuffled, k=10, conductance=0.2)
    pure = [len(set(kind[lost["cluster"].values == n])) == 1 for n in lost["cluster_id"].values]
    assert not any(pure)
    tags = xr.DataArray(np.stack([kind == i for i in range(3)]), dims=("tag", "example", "token"))
    tags = tags.assign_coords(tag=["zero", "one", "two"])
    table = slt.purity(found, tags)
    np.testing.assert_allclose(table["purity"], 1)
    np.testing.assert_allclose(table["lift"], 3)
    assert set(table["tag"].values.tolist()) == {"zero", "one", "two"}


def test_conductance_of_the_same_tokens_elsewhere():
    chi, group = planted()
    found = slt.clusters(chi, k=15, smallest=20, conductance=0.4)
    own = slt.conductance(found, chi)
    # Overlapping sets lose the tokens that an earlier cluster claims: not lower than as found.
    assert (own >= found["conductance"] - 1e-9).all() and float(own.min()) < 0.2
    table = chi["chi"].values.reshape(chi.sizes["component"], -1)
    moved = chi["chi"].copy(data=np.random.default_rng(0).standard_normal(chi["chi"].shape))
    assert float(slt.conductance(found, chi.assign(chi=moved)).min()) > 0.4
    # By hand: edges of the symmetric graph of 15 neighbours, one cluster.
    from sklearn.neighbors import kneighbors_graph

    a = kneighbors_graph(table.T, 15).toarray()
    a = np.maximum(a, a.T)
    here = found["cluster"].values.ravel() == 0
    volume = min(a[here].sum(), a[~here].sum())
    np.testing.assert_allclose(own[0], a[here][:, ~here].sum() / volume)
    with pytest.raises(slt.InputError, match="same tokens"):
        slt.conductance(found, chi.isel(example=slice(1, None)))


def test_noise_has_no_clusters():
    chi, _ = planted(noise=50.0)
    assert slt.clusters(slt.zscore(chi), k=10, conductance=0.1).sizes["cluster_id"] == 0


def regression_response(n=400, d=6, nbeta=50.0, gamma=1.0, seed=0):
    """chi of three trace observables to the examples, and the posterior mean of the observables
    as a function of the weights of the data (linear regression, posterior around its minimum)."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)) * np.array([2.0, 1.5, 1.0, 0.8, 0.6, 0.5])
    blocks = [np.diag([1.0 * (i // 2 == b) for i in range(d)]) for b in range(3)]

    def covariance(p):
        return np.linalg.inv(nbeta * np.einsum("j,jd,je->de", p, x, x) + gamma * np.eye(d))

    def mean(p):
        return np.array([np.trace(b @ covariance(p)) / 2 for b in blocks])

    s = covariance(np.full(n, 1 / n))
    chi = -np.array([np.einsum("jd,de,je->j", x, s @ b @ s, x) / 2 for b in blocks])
    return xr.DataArray(chi, dims=("observable", "example")), mean, nbeta


def test_patterning_moves_what_it_promises_where_it_is_trusted():
    chi, mean, nbeta = regression_response()
    n = chi.sizes["example"]
    start = mean(np.full(n, 1 / n))
    target = np.array([1.0, 0.0, -1.0]) * start
    found = slt.patterning(chi, target, nbeta=nbeta)
    assert found.attrs["verdict"] == "trusted"
    assert found.attrs["largest_change"] == pytest.approx(0.25)
    assert float(found["weight"].sum()) == pytest.approx(1)
    np.testing.assert_allclose(found["predicted"], found.attrs["strength"] * target, atol=1e-12)
    small = slt.patterning(chi, target, nbeta=nbeta, strength=found.attrs["strength"] / 50)
    moved = mean(small["weight"].values) - start
    np.testing.assert_allclose(moved[[0, 2]], small["predicted"][[0, 2]], rtol=0.02)
    moved = mean(found["weight"].values) - start
    np.testing.assert_allclose(moved[[0, 2]], found["predicted"][[0, 2]], rtol=0.15)
    far = 30 * found.attrs["strength"]
    with pytest.raises(slt.InputError, match="weights negative"):
        slt.patterning(chi, target, nbeta=nbeta, strength=far)
    clipped = slt.patterning(chi, target, nbeta=nbeta, strength=far, clip=True)
    assert clipped.attrs["verdict"] == "misleading" and (clipped["weight"] >= 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: slt.clusters(c, k=200), "neighbours"),
        (lambda c: slt.same_token_shuffle(c.drop_vars(["token_id", "token_text"])), "token ids"),
        (lambda c: slt.token_tags(c.drop_vars("token_text")), "token_text"),
        (lambda c: slt.response_pca(c.isel(component=[0])), "two components"),
        (
            lambda c: slt.patterning(c["chi"].isel(example=0), {"l0.h9": 1.0}, nbeta=1.0),
            "l0.h9",
        ),
        (
            lambda c: slt.patterning(c["chi"].isel(example=[0] * 2, token=0), [1.0] * 6, nbeta=1.0),
            "depend linearly",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(slt.InputError, match=message):
        call(planted()[0])
