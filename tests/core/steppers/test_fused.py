"""The GPU's update: on a GPU where there is one, else the very kernels in Triton's interpreter.

Triton decides when it is imported whether it interprets, and torch may have imported it already:
the cases run in a process of their own.
"""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch


@pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton")
@pytest.mark.parametrize(
    "where",
    [
        pytest.param("interpreter", marks=pytest.mark.exhaustive),
        pytest.param("gpu", marks=pytest.mark.gpu),
    ],
)
def test_the_fused_update(where):
    if where == "gpu" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    environment = {**os.environ, "TRITON_INTERPRET": "0" if where == "gpu" else "1"}
    if where != "gpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/core/steppers/fused_cases.py", "-q"],
        env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
