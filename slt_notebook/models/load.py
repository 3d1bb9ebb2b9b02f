"""Loading of models: the packaged ones, from a folder, or from a hub."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as hf_logging

from slt_notebook.errors import InputError, nearest, say
from slt_notebook.models.tiny_lm import TinyLMConfig, TinyLMForCausalLM

PACKAGED = Path(__file__).parent / "packaged"


@cache
def _announce() -> None:
    """Register the packaged architecture with transformers, so that `AutoModel` finds it."""
    AutoConfig.register(TinyLMConfig.model_type, TinyLMConfig, exist_ok=True)
    AutoModelForCausalLM.register(TinyLMConfig, TinyLMForCausalLM, exist_ok=True)


def packaged() -> list[str]:
    """Names of the models that come with the kit."""
    return sorted(p.name for p in PACKAGED.iterdir() if (p / "tokenizer.json").exists())


def _folder(name: str | Path) -> Path | None:
    """Return the folder that `name` means, or None if it is the id of a model on a hub."""
    if isinstance(name, str) and (PACKAGED / name / "tokenizer.json").exists():
        return PACKAGED / name
    path = Path(name).expanduser()
    return path if path.is_dir() else None


def revisions(name: str | Path) -> list[str]:
    """Checkpoints of a model over training, oldest first.

    Args:
        name: a packaged model, or a folder with `step<N>` subfolders.

    Raises:
        InputError: no such model or folder.

    >>> revisions("tiny-lm")[0]
    'step0'
    """
    folder = _folder(name)
    if folder is None:
        raise InputError(
            say(
                f"the model {str(name)!r}",
                f"a packaged model {packaged()} or a folder{nearest(str(name), packaged())}",
                "for a model on a hub, pass the revision that its page names to slt.load",
            )
        )
    steps = [p.name for p in folder.iterdir() if re.fullmatch(r"step\d+", p.name)]
    return sorted(steps, key=lambda step: int(step[4:]))


def load(
    name: str | Path = "tiny-lm",
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[Any, Any]:
    """Return a causal LM and its tokenizer.

    Args:
        name: a packaged model (`"tiny-lm"`), a folder, or a Hugging Face id.
        revision: a checkpoint: for packaged models and folders a subfolder (see
            `slt.revisions`; the last one by default), for a hub its revision.
        dtype: of the loaded weights.

    Returns:
        `(model, tokenizer)`; the model in eval mode.

    Raises:
        InputError: an unknown revision, a folder without a model, a hub that cannot be reached.
    """
    _announce()
    folder = _folder(name)
    if folder is None:
        return _from_hub(str(name), revision, dtype)
    steps = revisions(folder)
    chosen = folder
    if revision is not None or (steps and not (folder / "config.json").exists()):
        revision = revision or steps[-1]
        if revision not in steps:
            raise InputError(
                say(
                    f"revision {revision!r} of {str(name)!r}",
                    f"one of {steps}{nearest(revision, steps)}",
                    "list them with slt.revisions",
                )
            )
        chosen = folder / revision
    if not (chosen / "config.json").exists():
        raise InputError(
            say(
                f"the folder {str(chosen)!r} without a config.json",
                "a model saved with save_pretrained",
                f"pass such a folder, a hub id, or a packaged model {packaged()}",
            )
        )
    with _quietly(folder.parent == PACKAGED):
        model = AutoModelForCausalLM.from_pretrained(chosen, dtype=dtype)
    source = chosen if (chosen / "tokenizer_config.json").exists() else folder
    return model.eval(), AutoTokenizer.from_pretrained(source)


@contextmanager
def _quietly(yes: bool) -> Iterator[None]:
    """Hide transformers' progress bar, if `yes`: a tiny model is loaded at once."""
    shown = hf_logging.is_progress_bar_enabled()
    if yes:
        hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        if yes and shown:
            hf_logging.enable_progress_bar()


def _from_hub(name: str, revision: str | None, dtype: torch.dtype) -> tuple[Any, Any]:
    options = {} if revision is None else {"revision": revision}
    try:
        model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype, **options)
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
    except OSError as cause:
        raise InputError(
            say(
                f"the model {name!r}: not packaged, no folder, and not reachable on a hub",
                f"a packaged model {packaged()}{nearest(name, packaged())}, a folder or a hub id",
                "check the spelling and the network; or save the model to a folder first",
            )
        ) from cause
    return model.eval(), tokenizer


def probe_texts(name: str = "tiny-lm") -> dict[str, list[str]]:
    """Short held-out texts of every domain that a packaged model was trained on.

    Args:
        name: of a packaged model.

    Returns:
        `{domain: [text, ...]}`.

    Raises:
        InputError: a model that is not packaged.
    """
    path = PACKAGED / name / "probe_texts.json"
    if not path.exists():
        raise InputError(say(f"{name!r}", f"one of {packaged()}", "pass your own texts"))
    return json.loads(path.read_text(encoding="utf-8"))
