"""Numbers and places as users write them: one parser for all settings.

Numbers come as Python's, numpy's and torch's, and as text from YAML (where `1e-4` is a string) or
the command line.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from slt_notebook.errors import InputError, say

_ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://?|::")
_LONGEST = 240
"""Bytes of a file name that leave room for what stands beside a store (its lock, its notes)."""


def plain(value: Any) -> Any:
    """Return a number, text or sequence of any library as Python's own; anything else as it is.

    >>> plain("1e-4"), plain("2"), plain((1.0, "2.5")), plain("fast")
    (0.0001, 2, [1.0, 2.5], 'fast')
    """
    if isinstance(value, str):
        return _number_of(value)
    if hasattr(value, "detach"):  # a tensor, on any device
        value = value.detach().cpu()
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple | range):
        return [plain(v) for v in value]
    return value


def _number_of(text: str) -> Any:
    stripped = text.strip().replace("_", "")
    try:
        return int(stripped)
    except ValueError:
        pass
    try:
        return float(stripped)
    except ValueError:
        return text


def whole_number(name: str, value: Any, least: int) -> int:
    """Return a setting that counts something.

    Args:
        name: of the setting, for the message.
        value: as the user wrote it; `32.0` and `"32"` are 32.
        least: the smallest value allowed.

    Raises:
        InputError: no whole number, or one below `least`.

    >>> whole_number("draws", "200", 1)
    200
    """
    found = plain(value)
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    if isinstance(found, bool) or not isinstance(found, int) or found < least:
        raise InputError(
            say(
                f"{name}={value!r}",
                f"a whole number, at least {least}",
                f"pass {name}={max(least, 1)}",
            )
        )
    return found


def numbers(name: str, value: Any) -> float | list[float]:
    """Return a setting that is one real number, or one per chain.

    Args:
        name: of the setting, for the message.
        value: as the user wrote it.

    Raises:
        InputError: something else.

    >>> numbers("nbeta", "1e1"), numbers("gamma", (1, 2.5))
    (10.0, [1.0, 2.5])
    """
    found = plain(value)
    each = found if isinstance(found, list) else [found]
    if not each or any(isinstance(v, bool) or not isinstance(v, int | float) for v in each):
        raise InputError(say(f"{name}={value!r}", "a number, or one per chain", f"pass {name}=1.0"))
    return [float(v) for v in each] if isinstance(found, list) else float(each[0])


def store_path(store: Any, what: str = "store") -> Path:
    """Return where a store is, as an absolute path: a later change of the folder does not move it.

    Args:
        store: a path on this machine.
        what: name of the parameter, for the message.

    Raises:
        InputError: nothing, no path, a remote address, or a name that is too long.
    """
    if not isinstance(store, str | os.PathLike):
        got = f"{what}={store!r} of type {type(store).__name__}"
        raise InputError(say(got, "a path", f"pass {what}='runs/name.zarr'"))
    text = os.fspath(store)
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    if not text.strip():
        raise InputError(say(f"an empty {what}", "a path", f"pass {what}='runs/name.zarr'"))
    if _ADDRESS.search(text) and not re.match(r"^[A-Za-z]:[\\/]", text):
        raise InputError(
            say(
                f"{what}={text!r}, which is an address and no path of this machine",
                "a folder on this machine",
                "sample into a local folder, and copy it there when the run is finished",
            )
        )
    if "\0" in text:
        raise InputError(say(f"{what}={text!r}, with a null character", "a path", "leave it out"))
    path = Path(os.path.abspath(Path(text).expanduser()))
    longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
    if longest > _LONGEST:
        got = f"a {what} whose name has {longest} bytes"
        raise InputError(say(got, f"at most {_LONGEST} bytes a name", "choose a shorter one"))
    if path == path.parent:
        raise InputError(say(f"{what}={text!r}", "a folder for the run", "name a folder in it"))
    return path
