"""The long experiments behind shipped results and figures: `slt-notebook experiment NAME`.

Nothing of the package but the command line imports this room.  Every module has a function
`main(arguments)` that parses its own arguments, writes files and prints what it found.
"""

import argparse
import importlib
from collections.abc import Sequence
from dataclasses import dataclass

from slt_notebook.errors import InputError, nearest, say


@dataclass(frozen=True)
class Experiment:
    """An experiment of the command line.

    Attributes:
        module: its module in this package.
        summary: what it does, in one line.
        time: how long it takes on two cores.
    """

    module: str
    summary: str
    time: str


EXPERIMENTS = {
    "benchmarks": Experiment(
        "benchmarks", "calibrate and samplers on problems with known answers", "10 min to 2 h"
    ),
    "brackets": Experiment(
        "brackets", "two bracket networks of one loss, and their LLCs", "10 min"
    ),
    "characters": Experiment("characters", "train a character model on Python source", "2 min"),
    "compression": Experiment(
        "compression", "critical bits against the LLC over training", "depends on the model"
    ),
    "imagenet": Experiment("imagenet.kernel", "loss kernel of an image classifier", "8 min"),
    "imagenet-report": Experiment("imagenet.report", "that kernel against WordNet", "1 min"),
    "in-context-training": Experiment(
        "in_context_training", "train in-context regression", "2 min a run"
    ),
    "in-context-collection": Experiment(
        "in_context_collection", "collect those runs: trajectories, losses, LLCs", "minutes"
    ),
    "lds": Experiment("lds", "attributions against retraining on digits", "10 min"),
    "mini-lm": Experiment("mini_lm", "influence while a model learns known stages", "15 min"),
    "smollm": Experiment("smollm", "refined LLCs of the last layers of SmolLM2-135M", "12 min"),
    "tiny-lm": Experiment("tiny_lm.train", "train the packaged model `tiny-lm`", "hours"),
    "tiny-lm-stages": Experiment(
        "tiny_lm.stages", "package its checkpoints with their stages", "minutes"
    ),
    "tiny-lm-heads": Experiment("tiny_lm.heads", "sweeps over its heads", "30 min"),
    "tiny-lm-influence": Experiment(
        "tiny_lm.influence", "influence between classes of its tokens over training", "15 min"
    ),
}


def run(name: str, arguments: Sequence[str]) -> None:
    """Run the experiment `name` with its own arguments.

    Raises:
        InputError: no experiment of that name (the nearest are given).
    """
    if name not in EXPERIMENTS:
        raise InputError(
            say(
                f"the experiment {name!r}{nearest(name, EXPERIMENTS)}",
                f"one of {', '.join(EXPERIMENTS)}",
                "list them with: slt-notebook experiment --list",
            )
        )
    module = importlib.import_module(f"{__name__}.{EXPERIMENTS[name].module}")
    module.main(arguments)


def argument_parser(name: str, about: str | None) -> argparse.ArgumentParser:
    """A parser for the arguments of the experiment `name`; `about` is its module's docstring."""
    return argparse.ArgumentParser(
        prog=f"slt-notebook experiment {name}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def listing() -> str:
    """All experiments as text: a line each with what it does and how long it takes."""
    width = max(map(len, EXPERIMENTS))
    return "\n".join(
        f"{name:{width}}  {one.summary} ({one.time})" for name, one in EXPERIMENTS.items()
    )
