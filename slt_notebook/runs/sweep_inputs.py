"""The checkpoints and components of a sweep, from what a user may write."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from slt_notebook.errors import InputError, say
from slt_notebook.models.components.patterns import Parts, check_disjoint
from slt_notebook.models.losses.causal_lm import causal_lm


def losses_by_label(loss: Any, checkpoints: Any) -> dict[str, Any]:
    """Label of a checkpoint -> a loss, a model, or a function that makes one.

    Args:
        loss: as in `slt.sweep`.
        checkpoints: as in `slt.sweep`; None is one checkpoint with the label "".

    Raises:
        InputError: no checkpoints, labels that are not distinct, or labels without a function.
    """
    if checkpoints is None:
        return {"": loss}
    if isinstance(checkpoints, Mapping):
        points = {str(k): v for k, v in checkpoints.items()}
    else:
        labels = [str(c) for c in checkpoints]
        if hasattr(loss, "evaluate") or isinstance(loss, nn.Module) or not callable(loss):
            raise InputError(
                say(
                    "checkpoints by label with one loss",
                    "a function from a label to a loss or model, or checkpoints={label: loss}",
                    "pass lambda step: slt.load('tiny-lm', revision=step)[0] as the loss",
                )
            )
        points = {label: lambda label=label: loss(label) for label in labels}
        if len(points) < len(labels):
            raise InputError(say(f"checkpoints {labels}", "distinct labels", "name each once"))
    if not points:
        raise InputError(say("no checkpoints", "at least one", "see slt.revisions"))
    return points


def loss_of(point: Any, label: str) -> Any:
    """Return the loss of a checkpoint, made if need be.

    Args:
        point: a loss, a model, or a function that makes one.
        label: of the checkpoint, for the message.

    Raises:
        InputError: something else.
    """
    made = point() if callable(point) and not hasattr(point, "evaluate") and not isinstance(
        point, nn.Module
    ) else point  # fmt: skip
    if isinstance(made, tuple):  # what slt.load returns
        made = made[0]
    if isinstance(made, nn.Module):
        made = causal_lm(made)
    if not hasattr(made, "evaluate"):
        raise InputError(
            say(
                f"a {type(made).__name__} at checkpoint {label!r}",
                "a loss of the kit or a Hugging Face model",
                "wrap the model: slt.causal_lm(model)",
            )
        )
    return made


def component_names(known: Parts, patterns: Sequence[str]) -> list[str]:
    """Names of all components that `patterns` ask for, each once.

    Raises:
        InputError, ComponentError: no pattern, one that matches nothing, or two names of the same
            (tied) parameters.
    """
    if not patterns:
        raise InputError(say("no components", "at least one", "pass components=['full']"))
    chosen: dict[str, None] = {}
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise InputError(say(f"component {pattern!r}", "a name", "pass a string"))
        plain = pattern.strip() in known.known
        chosen |= dict.fromkeys([pattern.strip()] if plain else known.expand(pattern))
    whole: dict[tuple, str] = {}
    for name in chosen:
        pieces = tuple(sorted(known.resolve(name).pieces, key=repr))
        if pieces in whole:
            check_disjoint([known.resolve(whole[pieces]), known.resolve(name)], "components")
        whole[pieces] = name
    return list(chosen)
