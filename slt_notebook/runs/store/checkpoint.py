"""The checkpoint of a run: kernel states to continue from, whole at any moment.

There are two slots per chain, a seal of each (`results/integrity/states.py`), and a cursor with the
number of steps of each.  A slot and its seal are durable before the cursor points at them, and the
slot that is written over is never the one to continue from.  So a run that ends at any moment
leaves a whole state, and a slot that is not whole is known by its seal.
"""

from collections.abc import Sequence

import numpy as np
import zarr

from slt_notebook import names
from slt_notebook.errors import StoreError, say
from slt_notebook.results.integrity.chunks import CURSOR, SEAL
from slt_notebook.results.integrity.sealed import META
from slt_notebook.results.integrity.states import leaf_names, seal_of
from slt_notebook.results.integrity.verify import REPAIR
from slt_notebook.runs.store.arrays import (
    COMPRESSED,
    array_of,
    encoded,
    group_of,
    new_array,
    stage,
    store_of,
    unreadable,
    values_of,
)

STATE_CHUNK = 1 << 24
"""Coordinates of a kernel state in one chunk."""
SLOT = "slot"


def create_checkpoint(root: zarr.Group, count: int) -> None:
    """Make the group of checkpoints of `count` chains, which have none yet."""
    group = root.create_group(names.CHECKPOINT)
    new_array(group, CURSOR, (count, 2), (1, 2), (names.CHAIN, SLOT), "i8", -1, filled=True)
    new_array(group, SEAL, (count, 2), (1, 1), (names.CHAIN, SLOT), "i8", 0)


def seal_old_states(root: zarr.Group) -> None:
    """Seal the states of a store that was written before there were seals.

    Raises:
        StoreError: a state does not match its checksum.
    """
    group = group_of(root, names.CHECKPOINT)
    if SEAL in group:
        return
    cursor = values_of(group, CURSOR)
    seals = np.zeros_like(cursor)
    for row, slot in np.argwhere(cursor >= 0).tolist():
        state = [_read_row(group, name, row, slot) for name in leaf_names(list(group.array_keys()))]
        seals[row, slot] = seal_of(int(cursor[row, slot]), state)
    made = encoded(
        seals, chunks=(1, 1), dtype="i8", fill_value=0, compressors=COMPRESSED,
        dimension_names=(names.CHAIN, SLOT),
    )  # fmt: skip
    meta = {META: made.pop(META)}
    files = store_of(root).files
    files.make_folder(files.root / group.path / SEAL)
    stage(group, SEAL, made)
    files.commit()
    stage(group, SEAL, meta)  # last: from then on every state has its seal
    files.commit()


def write_checkpoint(
    root: zarr.Group, rows: Sequence[int], steps: int, state: Sequence[np.ndarray]
) -> None:
    """Write the kernel state of the chains in `rows` after `steps` steps.

    What was written to the store before is durable before the cursor is written.

    Args:
        root: of the store.
        rows: places of the chains.
        steps: how many they have made.
        state: leaves of the state, the position first, each `[chain, ...]`.
    """
    group, files = group_of(root, names.CHECKPOINT), store_of(root).files
    cursor = values_of(group, CURSOR)
    made = [_make_leaf(group, _leaf_name(i), len(cursor), leaf) for i, leaf in enumerate(state)]
    if any(made):
        files.commit()  # metadata before values: without it they would count as damaged
    slots = {row: int(np.argmin(cursor[row])) for row in rows}
    for place, row in enumerate(rows):
        for leaf, value in enumerate(state):
            _write_row(array_of(group, _leaf_name(leaf)), row, slots[row], value[place])
        seal = seal_of(steps, [value[place] for value in state])
        array_of(group, SEAL)[row, slots[row]] = seal
        cursor[row, slots[row]] = steps
    files.commit()
    for row in rows:
        array_of(group, CURSOR)[row] = cursor[row]
    files.commit()


def _make_leaf(group: zarr.Group, name: str, count: int, value: np.ndarray) -> bool:
    """Make the array of a leaf of the state if it is not there; return whether it was not."""
    if name in group:
        return False
    dims = (names.CHAIN, SLOT, *(f"{name}_{i}" for i in range(value.ndim - 1)))
    fill = np.nan if value.dtype.kind == "f" else 0
    chunks = (1, 1, *(min(size, STATE_CHUNK) for size in value.shape[1:]))
    # Noise does not compress: on a large model trying took longer than a draw.
    raw = value[0].size > STATE_CHUNK // 16
    shape = (count, 2, *value.shape[1:])
    new_array(group, name, shape, chunks, dims, value.dtype, fill, raw)
    return True


def together(root: zarr.Group, rows: Sequence[int]) -> list[tuple[int, ...]]:
    """Divide chains into those that can go on together: all in `rows`, if they share a step.

    Chains of several workers stop at different steps, and a later call may give them to one.
    """
    cursor = values_of(group_of(root, names.CHECKPOINT), CURSOR)
    if _common_steps(cursor[list(rows)]) or cursor[list(rows)].max() < 0:
        return [tuple(rows)]
    latest = cursor.max(1)
    return [tuple(r for r in rows if latest[r] == at) for at in sorted({latest[r] for r in rows})]


def read_checkpoint(root: zarr.Group, rows: Sequence[int]) -> tuple[int, list[np.ndarray] | None]:
    """Return the latest step for which every chain in `rows` has a whole state, and that state.

    Returns:
        The step, and the leaves of the state `[chain, ...]`; 0 and None where there is no such
        step.

    Raises:
        KeyError: the checkpoints were taken out of the store.
        StoreError: a state does not match its checksum, or none is the one that the cursor says.
    """
    group = group_of(root, names.CHECKPOINT)
    cursor = values_of(group, CURSOR)[list(rows)]
    common = sorted(_common_steps(cursor), reverse=True)
    seals = values_of(group, SEAL)[list(rows)]
    for steps in common:
        slots = [int(np.flatnonzero(row == steps)[0]) for row in cursor]
        state = [
            np.stack([_read_row(group, name, r, s) for r, s in zip(rows, slots, strict=True)])
            for name in leaf_names(list(group.array_keys()))
        ]
        expected = [int(seals[place, slot]) for place, slot in enumerate(slots)]
        found = [seal_of(steps, [leaf[place] for leaf in state]) for place in range(len(rows))]
        if expected == found:
            return steps, state
    if common:
        root_path = str(store_of(root).root)
        got = f"{root_path!r}, whose states are not those that its cursor says"
        raise StoreError(say(got, "a state to continue from", REPAIR.format(root_path)))
    return 0, None


def forget_later(root: zarr.Group, rows: Sequence[int], steps: int) -> None:
    """Drop the states after `steps`, from which the chains in `rows` do not go on.

    Else one of them, and not the state that they go on from, could be the next to stay.
    """
    group = group_of(root, names.CHECKPOINT)
    cursor = values_of(group, CURSOR)
    later = [row for row in rows if cursor[row].max() > steps]
    for row in later:
        array_of(group, CURSOR)[row] = np.where(cursor[row] > steps, -1, cursor[row])
    if later:
        store_of(root).files.commit()


def _common_steps(cursor: np.ndarray) -> set[int]:
    """Return the steps for which every chain has a state; `cursor` is `[chain, slot]`."""
    common = set(cursor[0].tolist())
    for other in cursor[1:]:
        common &= set(other.tolist())
    return common - {-1}


def _read_row(group: zarr.Group, name: str, row: int, slot: int) -> np.ndarray:
    try:
        return np.asarray(array_of(group, name)[row, slot])
    except (ValueError, RuntimeError) as cause:
        raise unreadable(group, name, cause) from cause


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
