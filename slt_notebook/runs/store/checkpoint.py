"""The checkpoint of a run: kernel states to continue from, whole at any moment.

There are two slots per chain, and a cursor with the number of steps of each.  A slot is written
before the cursor that points at it, so a run killed at any moment leaves one whole state.
"""

from collections.abc import Sequence

import numpy as np
import zarr

from slt_notebook import names
from slt_notebook.runs.store.arrays import (
    array_of,
    group_of,
    new_array,
    unreadable,
    values_of,
)

STATE_CHUNK = 1 << 24
"""Coordinates of a kernel state in one chunk."""
CURSOR = "cursor"
SLOT = "slot"


def create_checkpoint(root: zarr.Group, count: int) -> None:
    """Make the group of checkpoints of `count` chains, which have none yet."""
    group = root.create_group(names.CHECKPOINT)
    new_array(group, CURSOR, (count, 2), (1, 2), (names.CHAIN, SLOT), "i8", -1, filled=True)


def steps_reached(root: zarr.Group) -> np.ndarray:
    """Return the step of the latest checkpoint of each chain, `[chain]`; -1 where there is none.

    Raises:
        KeyError: the checkpoints were taken out of the store.
    """
    return values_of(group_of(root, names.CHECKPOINT), CURSOR).max(1)


def write_checkpoint(
    root: zarr.Group, rows: Sequence[int], steps: int, state: Sequence[np.ndarray]
) -> None:
    """Write the kernel state of the chains in `rows` after `steps` steps.

    Args:
        root: of the store.
        rows: places of the chains.
        steps: how many they have made.
        state: leaves of the state, the position first, each `[chain, ...]`.
    """
    group = group_of(root, names.CHECKPOINT)
    cursor = values_of(group, CURSOR)
    for leaf, value in enumerate(state):
        name = _leaf_name(leaf)
        if name not in group:
            shape = (cursor.shape[0], 2, *value.shape[1:])
            dims = (names.CHAIN, SLOT, *(f"{name}_{i}" for i in range(value.ndim - 1)))
            fill = np.nan if value.dtype.kind == "f" else 0
            chunks = (1, 1, *(min(size, STATE_CHUNK) for size in value.shape[1:]))
            # Noise does not compress: on a large model trying took longer than a draw.
            raw = value[0].size > STATE_CHUNK // 16
            new_array(group, name, shape, chunks, dims, value.dtype, fill, raw)
    for place, row in enumerate(rows):
        slot = int(np.argmin(cursor[row]))
        for leaf, value in enumerate(state):
            _write_row(array_of(group, _leaf_name(leaf)), row, slot, value[place])
        cursor[row, slot] = steps
    for row in rows:
        array_of(group, CURSOR)[row] = cursor[row]


def read_checkpoint(root: zarr.Group, rows: Sequence[int]) -> tuple[int, list[np.ndarray] | None]:
    """Return the latest step for which every chain in `rows` has a whole state, and that state.

    Returns:
        The step, and the leaves of the state `[chain, ...]`; 0 and None where there is no such
        step.

    Raises:
        KeyError: the checkpoints were taken out of the store.
        StoreError: a state does not match its checksum.
    """
    group = group_of(root, names.CHECKPOINT)
    cursor = values_of(group, CURSOR)[list(rows)]
    common = set(cursor[0].tolist())
    for other in cursor[1:]:
        common &= set(other.tolist())
    common.discard(-1)
    if not common:
        return 0, None
    steps = max(common)
    leaves = sorted(
        (n for n in group.array_keys() if n.startswith("state_")), key=lambda n: int(n[6:])
    )
    state = []
    for name in (names.POSITION, *leaves):
        array = array_of(group, name)
        try:
            picked = [
                np.asarray(array[row, int(np.flatnonzero(cursor[i] == steps)[0])])
                for i, row in enumerate(rows)
            ]
        except (ValueError, RuntimeError, OSError) as cause:
            raise unreadable(group, name, cause) from cause
        state.append(np.stack(picked))
    return steps, state


def _leaf_name(leaf: int) -> str:
    return names.POSITION if leaf == 0 else f"state_{leaf}"


def _write_row(array: zarr.Array, row: int, slot: int, values: np.ndarray) -> None:
    """Write `[row, slot]`, a chunk at a time.

    Zarr takes the values of exactly one chunk as they are; of more it first makes copies, all at
    once: a large model's row a second time.
    """
    if not values.ndim:  # one number a chain
        array[row, slot] = values
        return
    width = array.chunks[-1]
    for start in range(0, values.shape[-1], width):
        part = slice(start, min(start + width, values.shape[-1]))
        array[row : row + 1, slot : slot + 1, ..., part] = values[None, None, ..., part]
