"""What a run that ended while it wrote left behind: finished, or removed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import google_crc32c

from slt_notebook.results.integrity.files import Files, read
from slt_notebook.results.integrity.sealed import META, is_sealed


def recover(root: Path, checked: bool) -> None:
    """Finish or undo the writes that a run was in when it ended.

    A file that was written whole takes its place if that is empty: its rename was not atomic.
    Other half-written files are removed.

    Args:
        root: Folder of the run; no run is writing it.
        checked: Whether its chunks end with a checksum, so that a whole one is known from a part.
    """
    files = Files(root)
    for folder, _, found in os.walk(root):
        for name in found:
            left = Path(folder) / name
            if name.endswith(".partial"):  # of Zarr's, by which runs were written before
                files.remove(left)
            if not (name.startswith(".") and name.endswith(".new")):
                continue
            place = left.with_name(name[1:-4])
            if checked and not place.exists():
                data = read(left)
                if _is_whole(place, data):
                    files.stage(place, data)
                    files.commit()  # writes it anew, and so over what was left
                    continue
            files.remove(left)
    files.commit()


def _is_whole(place: Path, data: bytes) -> bool:
    """Whether the content of a file is all of it, by its own checksum."""
    if place.name == META:
        try:
            return is_sealed(json.loads(data))
        except (ValueError, AttributeError):
            return False
    return len(data) > 4 and google_crc32c.value(data[:-4]).to_bytes(4, "little") == data[-4:]
