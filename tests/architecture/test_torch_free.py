"""The result side works on a machine without torch, where importing it fails."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "slt_notebook"
POISON = """
import sys
class Poison:  # not sys.modules["torch"] = None: scipy looks there and stumbles over the None
    banned = {"torch", "transformers"} | {
        f"slt_notebook.{room}" for room in ("core", "models", "runs", "toys")}
    def find_spec(self, name, path=None, target=None):
        if name in self.banned:
            raise ImportError(f"{name} is poisoned")
sys.meta_path.insert(0, Poison())
"""


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", POISON + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def modules(*rooms: str) -> list[str]:
    files = [f for room in rooms for f in sorted((PACKAGE / room).rglob("*.py"))]
    names = [".".join(f.relative_to(ROOT).with_suffix("").parts) for f in files]
    return [n.removesuffix(".__init__") for n in names]


@pytest.mark.parametrize("room", ["results", "estimators", "views", "share"])
def test_every_module_imports(room):
    names = modules(room)
    assert names
    run("import importlib\n" + "\n".join(f"importlib.import_module({n!r})" for n in names))


def test_the_front_door_imports_next_to_nothing():
    heavy = ("numpy", "xarray", "pandas", "zarr", "scipy", "altair", "anywidget", "arviz_stats")
    out = run(f"import slt_notebook; print([m for m in {heavy!r} if m in sys.modules])")
    assert out.strip() == "[]"


def test_a_colleague_opens_a_run_and_reads_every_number(tmp_path):
    from tests.cases import synthetic_tree
    from tests.stores import write_store

    path = write_store(synthetic_tree(), tmp_path / "a.zarr")
    out = run(
        f"""
        import slt_notebook as slt
        tree = slt.open_run({str(path)!r})
        print(float(slt.llc(tree)["mean"]))
        slt.health(tree), slt.influence(tree), slt.loss_kernel(tree), slt.waic(tree)
        slt.wbic(tree, strict=False), slt.free_energy(100, 0.3, 2), slt.crossover()
        assert "torch" not in sys.modules
        """
    )
    assert 2.5 < float(out) < 3.5


def test_the_poison_works():
    """The tests above can fail: the torch side does not import here."""
    with pytest.raises(AssertionError, match="poisoned"):
        run("import slt_notebook as slt; slt.SGLD")
