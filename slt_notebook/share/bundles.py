"""Check that the front end is built, and from the sources at hand.

Standard library only: the build hook loads this very file by its path, before anything is
installed.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
STATIC = PACKAGE / "static"
LABEXTENSION = PACKAGE / "labextension"
SOURCES = PACKAGE.parent / "widgets"
BUILD_COMMAND = "npm --prefix widgets ci && npm --prefix widgets run build"

_LOOSE = ("build.mjs", "package.json", "package-lock.json", "tsconfig.json")


def source_hash(widgets: Path) -> str:
    """sha256 over names and contents of everything a bundle is made from.

    The same digest as `sourceHash` in `widgets/build.mjs`, which writes it to `static/.hash`.
    """
    files = [widgets / name for name in _LOOSE]
    files += [path for path in (widgets / "src").rglob("*") if path.is_file()]
    digest = hashlib.sha256()
    named = {path.relative_to(widgets).as_posix(): path for path in files}
    for name in sorted(named):
        if not named[name].name.startswith("."):
            digest.update(name.encode() + b"\0" + named[name].read_bytes() + b"\0")
    return digest.hexdigest()


def built_hash(static: Path) -> str | None:
    """The hash of the sources that `static` was built from; None when the build is incomplete."""
    mark = static / ".hash"
    return mark.read_text().strip() if mark.is_file() else None


@dataclass(frozen=True)
class Bundles:
    """What is built: names and bytes of the widgets, and whether they match the sources."""

    widgets: dict[str, int]
    labextension: bool
    state: str
    """`fresh`, `stale`, `missing`, or `installed` (no sources beside the package to compare)."""

    @property
    def usable(self) -> bool:
        """Whether there is anything to load."""
        return self.state != "missing"


def status(
    static: Path = STATIC, labextension: Path = LABEXTENSION, widgets: Path = SOURCES
) -> Bundles:
    """Look at the folders; never builds."""
    found = {path.stem: path.stat().st_size for path in sorted(static.glob("*.js"))}
    built = built_hash(static)
    if built is None or not found:
        state = "missing"
    elif not (widgets / "build.mjs").is_file():
        state = "installed"
    else:
        state = "fresh" if built == source_hash(widgets) else "stale"
    return Bundles(found, _labextension_complete(labextension), state)


def _labextension_complete(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / "package.json").read_text())
        return (folder / manifest["jupyterlab"]["_build"]["load"]).is_file()
    except (OSError, ValueError, KeyError, TypeError):
        return False
