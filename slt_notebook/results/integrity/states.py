"""Seals of kernel states: whether the state in a slot is the one that the cursor says.

A slot of the checkpoint has several files, and is written over while the other slot is the one to
continue from.  Its seal is a crc32c of the step and of all values of the state, so that a slot that
is old, new in part, or of another step than the cursor's is known as such.  Runs written before
there were seals have none (0) until they are sampled again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import google_crc32c
import numpy as np

from slt_notebook import names
from slt_notebook.results.integrity.chunks import SEAL, Done, Loss, array_at, values_at


def seal_of(steps: int, state: Sequence[np.ndarray]) -> int:
    """Return the seal of the state of one chain; never 0.

    Args:
        steps: How many steps it has made.
        state: Leaves of the state, the position first.
    """
    found = google_crc32c.value(steps.to_bytes(8, "little"))
    for leaf in state:
        found = google_crc32c.extend(found, np.ascontiguousarray(leaf).view(np.uint8).reshape(-1))
    return found + 1


def leaf_names(folders: Sequence[str]) -> list[str]:
    """Return the arrays of a state in order, given what the checkpoint holds."""
    numbered = sorted((n for n in folders if n.startswith("state_")), key=lambda n: int(n[6:]))
    return [names.POSITION, *numbered]


def broken_seals(root: Path, done: Done) -> list[Loss]:
    """Return the slots of the run at `root` whose state is not the one that the cursor says.

    Args:
        root: Folder of the run.
        done: How far its chains are.

    Raises:
        OSError: The disk does not answer.
    """
    group = root / names.CHECKPOINT
    if done.cursor is None or not (group / SEAL).is_dir():
        return []
    found = []
    try:
        seals = values_at(root, f"{names.CHECKPOINT}/{SEAL}")
        leaves = leaf_names([p.name for p in group.glob("*/")])
        arrays = [array_at(root, f"{names.CHECKPOINT}/{leaf}") for leaf in leaves]
    except (ValueError, RuntimeError):
        return []  # an error of its own
    for row, slot in np.argwhere((done.cursor >= 0) & (seals > 0)).tolist():
        steps = int(done.cursor[row, slot])
        try:
            state = [np.asarray(array[row, slot]) for array in arrays]
        except (ValueError, RuntimeError):
            continue  # damage of its own
        if seal_of(steps, state) != seals[row, slot]:
            reason = f"it is not the state after step {steps}"
            path = f"{names.CHECKPOINT}/{names.POSITION}"
            chunk = (row, slot, *(0 for _ in arrays[0].shape[2:]))
            found.append(Loss(path, chunk, done.chains[row], reason=reason))
    return found
