"""The metadata of a run (`zarr.json` files), each sealed with a digest of its own content.

The digest stands in the attributes of the file, so that a file is replaced together with it.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slt_notebook import names
from slt_notebook.results.integrity.files import read

META = "zarr.json"


def digest(doc: Mapping[str, Any]) -> str:
    """Return the digest of the content of a `zarr.json`, which does not count the digest itself."""
    attrs = {k: v for k, v in doc.get("attributes", {}).items() if k != names.A_DIGEST}
    text = json.dumps({**doc, "attributes": attrs}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def document_digest(doc: Mapping[str, Any], key: str = names.A_DIGEST) -> str:
    """Return the digest of a JSON object that carries its own digest at `key`."""
    rest = {k: v for k, v in doc.items() if k != key}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def encode(doc: Mapping[str, Any], seal: bool = True) -> bytes:
    """Return the content of a `zarr.json`, with its digest if `seal`."""
    attrs = {k: v for k, v in doc.get("attributes", {}).items() if k != names.A_DIGEST}
    sealed = {**doc, "attributes": attrs}
    if seal:
        attrs[names.A_DIGEST] = digest(sealed)
    return json.dumps(sealed, indent=2).encode()


def read_metadata(folder: Path) -> dict[str, Any]:
    """Return the `zarr.json` of a folder as it is.

    Raises:
        ValueError: None there, or no JSON; the message says which.
        OSError: The disk does not answer.
    """
    try:
        doc = json.loads(read(folder / META))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise ValueError(f"its {META} is missing") from None
    except OSError as cause:
        if cause.errno != errno.EIO:
            raise
        raise ValueError(f"its {META} cannot be read ({cause.strerror})") from cause
    except (ValueError, RecursionError) as cause:
        raise ValueError(f"its {META} cannot be read ({type(cause).__name__}: {cause})") from cause
    if not isinstance(doc, dict) or not isinstance(doc.get("attributes", {}), dict):
        raise ValueError(f"its {META} holds something else")
    return doc


def read_sealed(folder: Path) -> dict[str, Any]:
    """Return the `zarr.json` of a folder, compared with its digest.

    Raises:
        ValueError: None there, no JSON, or changed; the message says which.
        OSError: The disk does not answer.
    """
    doc = read_metadata(folder)
    if not is_sealed(doc):
        raise ValueError(f"its {META} does not match its digest")
    return doc


def is_sealed(doc: Mapping[str, Any]) -> bool:
    """Whether the content of a `zarr.json` matches its digest."""
    return doc.get("attributes", {}).get(names.A_DIGEST) == digest(doc)


def has_checksums(attrs: Mapping[str, Any]) -> bool:
    """Whether the attributes of a run's root say that it carries checksums."""
    return any(k in attrs for k in names.STORE_ATTRS)


def attributes(root: Path) -> dict[str, Any]:
    """Return the attributes of a run, or none where they cannot be read."""
    try:
        return read_metadata(root).get("attributes", {})
    except ValueError:
        return {}


def array_paths(root: Path, attrs: Mapping[str, Any], checkpoint: bool = False) -> list[str]:
    """Return the paths of the arrays that a run has, or must have."""
    paths = [str(p) for p in attrs.get(names.A_ARRAYS, [])]
    if not paths:  # a store of before, which does not list them
        here = [p.parent for g in (names.SAMPLING, names.PROBE) for p in (root / g).rglob(META)]
        paths = sorted(p.relative_to(root).as_posix() for p in here if not _is_group(p))
    if checkpoint:
        found = sorted((root / names.CHECKPOINT).glob("*/"))
        states = [p.name for p in found if not p.name.startswith(".") and not _is_begun(p)]
        paths += [f"{names.CHECKPOINT}/{name}" for name in states]
    return paths


def _is_begun(folder: Path) -> bool:
    """Whether nothing was committed to an array: its metadata comes before its first chunk."""
    here = [p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")]
    return not here


def _is_group(folder: Path) -> bool:
    try:
        return read_metadata(folder).get("node_type") == "group"
    except ValueError:
        return False
