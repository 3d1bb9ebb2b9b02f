"""Settings are stated once: every public function has them, with one default and one message."""

import dataclasses
import inspect
import json

import numpy as np
import pytest

import slt_notebook as slt
from slt_notebook.runs.plan.settings import Settings, Speed, from_keywords
from slt_notebook.runs.plan.task import compare, make_task

FIELDS = [*dataclasses.fields(Settings), *dataclasses.fields(Speed)]
STORED = {
    "batch_size": 4,
    "batches": "shared",
    "burnin": 1,
    "chains": [0, 3],
    "component": "full",
    "data": {"examples": 8, "fingerprint": "d449436aed4c769b", "name": "d"},
    "draws": 5,
    "gamma": [1.0, 10.0],
    "kernel": {
        "kind": "SGLD",
        "metric": {
            "adapt": "always", "compat": "paper", "decay": 0.99, "eps": 0.1, "kind": "RMSProp",
        },
        "step_size": [0.001, 0.002],
    },
    "model": "abc",
    "nbeta": [4.0, 4.0],
    "probes": [{"examples": 8, "fingerprint": "d449436aed4c769b", "name": "d"}],
    "seed": 7,
    "thin": 2,
}  # fmt: skip
"""A task as a store of before this refactoring holds it."""


@pytest.fixture
def data():
    return slt.array_probe("d", np.ones((8, 3), "f"), np.ones(8, "f"))


def test_sample_has_every_setting_with_its_default():
    known = inspect.signature(slt.sample).parameters
    for field in FIELDS:
        assert known[field.name].default == field.default, field.name
        assert known[field.name].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("function", [slt.sample, slt.sweep, slt.memory_plan])
def test_unknown_keywords_are_refused_with_the_nearest(function, data):
    loss = slt.loss_fn({"w": np.zeros(3)}, lambda p, b: b["inputs"] @ p["w"])
    name = f"slt.{function.__name__}"
    with pytest.raises(slt.InputError, match=rf"keyword 'batchsize'.*{name}.*'batch_size'"):
        function(loss, data, batchsize=3)
    with pytest.raises(slt.InputError, match=r"keyword 'component'.*did you mean 'components'"):
        function(loss, data, component="full")


def test_keywords_are_split():
    settings, speed = from_keywords({"draws": 3, "compile": True, "device": "cpu"}, "f")
    assert settings == Settings(draws=3) and speed == Speed(compile=True, device="cpu")
    assert from_keywords({"store": 1}, "f", ["store"]) == (Settings(), Speed())


def test_a_task_is_stored_as_before(data):
    kernel = slt.SGLD(step_size=[1e-3, 2e-3], metric=slt.RMSProp())
    asked = Settings(
        kernel=kernel, nbeta=4, gamma=(1.0, 10.0), chains=[0, 3], draws=5, burnin=1, thin=2,
        batch_size=4, batches="shared", seed=7,
    )  # fmt: skip
    task = make_task(asked, "full", "abc", data, [data])
    assert task.to_json() == json.dumps(STORED, sort_keys=True)
    assert compare(json.dumps(STORED), task) == "same"
    more = make_task(dataclasses.replace(asked, draws=6), "full", "abc", data, [data])
    assert compare(json.dumps(STORED), more) == "more"
    half = make_task(dataclasses.replace(asked, probe_dtype="float16"), "full", "abc", data, [data])
    assert json.loads(half.to_json()) == {**STORED, "probe_dtype": "float16"}


def test_defaults_are_resolved_from_the_data(data):
    task = make_task(Settings(batch_size=8), "full", "abc", data, [])
    assert task.nbeta == (8 / np.log(8),) * 4 and task.kernel == slt.SGLD(step_size=1e-4)
    assert task.chains == (0, 1, 2, 3) and task.gamma == (100.0,) * 4
