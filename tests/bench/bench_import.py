"""Time of `import slt_notebook`: `python -m tests.bench.bench_import`."""

import subprocess
import sys

POISON = (
    "import sys\n"
    "class P:\n"
    "    def find_spec(self, n, path=None, target=None):\n"
    "        if n in ('torch', 'transformers'): raise ImportError(n)\n"
    "sys.meta_path.insert(0, P())\n"
)


def seconds(code: str, repeats: int = 7) -> float:
    """The least of several fresh processes, without the start of the interpreter."""
    inner = f"{POISON}import time; t = time.perf_counter()\n{code}\nprint(time.perf_counter() - t)"
    runs = [
        float(subprocess.run([sys.executable, "-c", inner], capture_output=True, text=True).stdout)
        for _ in range(repeats)
    ]
    return min(runs)


if __name__ == "__main__":
    for line in (
        "import slt_notebook",
        "import slt_notebook as slt; slt.open_run",
        "import slt_notebook as slt; slt.llc; slt.influence; slt.health",
    ):
        print(f"{seconds(line):.3f} s  {line}   (torch poisoned)")
