"""Data as users have it: the same probe, whatever holds it."""

import functools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from torch.utils.data import Dataset as TorchDataset

import slt_notebook as slt
from slt_notebook.models.data import as_probe

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((600, 3)).astype("f4"), RNG.integers(0, 5, 600)
IDS = RNG.integers(0, 40, (20, 6))
RUN = {
    "chains": 2, "draws": 3, "batch_size": 4, "nbeta": 5.0, "progress": False,
    "kernel": slt.SGLD(step_size=1e-5),
}  # fmt: skip


class Rows(TorchDataset):
    """A map-style dataset of whatever `make` returns for an index."""

    def __init__(self, make, size=600):
        self.make, self.size = make, size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return self.make(index)


PAIRS = TensorDataset(torch.tensor(X), torch.tensor(Y))
ARRAYS = {
    "pair": (X, Y),
    "tensors": PAIRS,
    "dicts": Rows(lambda i: {"pixel_values": X[i], "label": Y[i]}),
    "loader, shuffled": DataLoader(PAIRS, batch_size=7, shuffle=True),
    "loader, own collation": DataLoader(
        Rows(lambda i: (X[i] - 1, Y[i])),
        collate_fn=lambda rows: {
            "inputs": torch.tensor(np.stack([x for x, _ in rows])) + 1,
            "targets": torch.tensor([y for _, y in rows]),
        },
    ),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays(kind):
    found = as_probe(ARRAYS[kind], "data", "array")
    np.testing.assert_allclose(found.fields["inputs"], X, atol=1e-6)
    np.testing.assert_array_equal(found.fields["targets"], Y)
    assert found.examples[:2] == ("data/0", "data/1")


TEXTS = {
    "array": IDS,
    "tensor": torch.tensor(IDS),
    "lists": IDS.tolist(),
    "columns": {"input_ids": IDS, "attention_mask": np.ones_like(IDS)},
    "dataset": Rows(lambda i: {"input_ids": torch.tensor(IDS[i])}, 20),
    "loader": DataLoader(Rows(lambda i: {"input_ids": torch.tensor(IDS[i])}, 20), shuffle=True),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_texts(kind):
    found = as_probe(TEXTS[kind], "data", "text")
    assert found.fingerprint == slt.token_probe("data", IDS).fingerprint


def test_ragged_texts_of_a_loader_keep_their_padding_out():
    rows = [IDS[i, : 3 + i % 3] for i in range(20)]

    def collate(batch):
        width = max(len(r) for r in batch)
        pad = lambda r: np.concatenate([np.zeros(width - len(r), int), r])
        return {
            "input_ids": torch.tensor(np.stack([pad(r) for r in batch])),
            "attention_mask": torch.tensor(np.stack([pad(np.ones_like(r)) for r in batch])),
        }

    loader = DataLoader(Rows(lambda i: rows[i], 20), collate_fn=collate)
    assert as_probe(loader, "d", "text").fingerprint == slt.token_probe("d", rows).fingerprint


def test_a_run_on_a_loader_is_the_run_on_its_probe():
    net = nn.Linear(3, 5)
    loss = slt.supervised(net, functools.partial(F.cross_entropy, reduction="none"))
    probe = slt.array_probe("data", X, Y)
    plain = slt.sample(loss, probe, probes=[probe], **RUN).tree
    loader = ARRAYS["loader, shuffled"]
    found = slt.sample(loss, loader, probes=[loader], **RUN).tree
    for path in ("sampling", "probe/data"):
        np.testing.assert_array_equal(found[path].loss, plain[path].loss)
    swept = slt.sample(loss, {"a": loader, "b": PAIRS}, probes=[PAIRS], **RUN).tree
    np.testing.assert_array_equal(
        swept["sampling"].loss.sel(dataset="a").values.squeeze(), plain["sampling"].loss
    )
    assert "probe0" in swept["probe"]


def test_streams_and_strangers_are_refused():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(X)

    loss = slt.supervised(nn.Linear(3, 5), F.cross_entropy)
    cases = [
        (Stream(), "no length"), (DataLoader(Stream()), "no length"), (iter(X), "no length"),
        (3, "data of type int"), (X, "a pair"), (Rows(lambda i: X[i]), "collate to a Tensor"),
        (Rows(lambda i: {"a": X[i]}), "targets"), (Rows(lambda i: 0, 0), "no examples"),
    ]  # fmt: skip
    for data, words in cases:
        with pytest.raises(slt.InputError, match=words):
            slt.sample(loss, data, **RUN)
    with pytest.raises(slt.InputError, match="token ids"):
        as_probe("a text", "d", "text")


def test_datasets_of_hugging_face():
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_dict({"image": X, "label": Y})
    np.testing.assert_array_equal(as_probe(made, "d", "array").fields["inputs"], X)
    with pytest.raises(slt.InputError, match="no length"):
        as_probe(made.to_iterable_dataset(), "d", "array")
