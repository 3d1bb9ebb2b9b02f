"""Probes: what is counted, what it is called, what is refused."""

import numpy as np
import pytest

import slt_notebook as slt
from slt_notebook.models.token_strings import token_string


@pytest.fixture(scope="module")
def tokenizer():
    return slt.load("tiny-lm")[1]


def test_token_strings_spell_the_text(tokenizer):
    text = "The cat sat.\n\tdef f(x):  return 'naïve'"
    probe = slt.text_probe("t", text, tokenizer)
    row = probe.fields["input_ids"][0]
    strings = [probe.strings[int(i)] for i in row]
    if all("⟨" not in s for s in strings):
        assert "".join(strings) == text
    assert "\n" in "".join(strings)


def test_bytes_that_are_no_character_show_as_hex(tokenizer):
    ids = tokenizer("日", add_special_tokens=False)["input_ids"]
    shown = [token_string(tokenizer, i) for i in ids]
    assert "⟨E6⟩" in shown[0] and all(s.startswith("⟨") for s in shown)
    assert token_string(tokenizer, 0) == "<|endoftext|>"


def test_windows_labels_and_limits(tokenizer):
    texts = {"a": ["one two three " * 40], "b": "four five " * 60}
    probe = slt.text_probe("mix", texts, tokenizer, length=32, limit=2)
    assert probe.labels == ("a", "a", "b", "b") and probe.examples[3] == "mix/3"
    assert probe.fields["input_ids"].shape == (4, 32) and probe.tokens == 31


def test_ragged_rows_are_padded_on_the_right():
    probe = slt.token_probe("x", [[5, 6, 7], [8, 9]])
    assert probe.fields["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert probe.strings[5] == "⟨5⟩"


def test_fingerprint_follows_content():
    a, b = slt.token_probe("x", [[1, 2]]), slt.token_probe("x", [[1, 3]])
    assert a.fingerprint == slt.token_probe("x", [[1, 2]]).fingerprint != b.fingerprint


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t: slt.token_probe("x", [[1]]), "at least 2 tokens"),
        (lambda t: slt.token_probe("x", []), "at least one"),
        (lambda t: slt.token_probe("x", [[1, -2]]), "integers from 0"),
        (lambda t: slt.token_probe("x", [[1.0, 2.0]]), "integers from 0"),
        (lambda t: slt.token_probe("a/b", [[1, 2]]), "letters, digits"),
        (lambda t: slt.text_probe("x", "", t), "at least 2 tokens"),
        (lambda t: slt.text_probe("x", [1], t), "a int among the texts"),
        (lambda t: slt.text_probe("x", "abc", t, length=1), "length=1"),
        (lambda t: slt.array_probe("x", [[np.nan]], [0]), "1 NaN or infinite"),
        (lambda t: slt.array_probe("x", [[1.0]], [0, 1]), "equal lengths"),
        (lambda t: slt.array_probe("x", [], []), "at least 1"),
        (lambda t: slt.array_probe("x", [[1.0]], [0], labels=["a", "b"]), "2 labels"),
    ],
)
def test_bad_input(make, message, tokenizer):
    with pytest.raises(slt.InputError, match=message):
        make(tokenizer)


# What tokenizers give and take --------------------------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("form", ["np", "pt", None])
def test_padding_of_a_tokenizer_is_not_counted(side, form):
    _, tok = slt.load("tiny-lm")
    texts = ["The cat sat on the mat and slept", "Hi there"]
    plain = slt.token_probe("p", [tok(t)["input_ids"] for t in texts], tok)
    tok.pad_token, tok.padding_side = tok.eos_token, side
    found = slt.token_probe("p", tok(texts, padding=True, return_tensors=form), tok)
    for field, values in plain.fields.items():
        np.testing.assert_array_equal(found.fields[field], values)
    assert found.fingerprint == plain.fingerprint


def test_masks_with_holes_and_other_fields_are_refused():
    with pytest.raises(slt.InputError, match="all padding at the ends"):
        slt.token_probe("p", {"input_ids": [[1, 2, 3]], "attention_mask": [[1, 0, 1]]})
    with pytest.raises(slt.InputError, match="attention mask of sequence 1"):
        slt.token_probe("p", {"input_ids": [[1, 2], [1, 2]], "attention_mask": [[1, 1]]})
    with pytest.raises(slt.InputError, match="'input_ids'"):
        slt.token_probe("p", {"ids": [[1, 2]]})


def test_added_tokens_are_shown_as_they_were_written():
    _, tok = slt.load("tiny-lm")
    words = ["é", "naïve", "→", "Ġx", "<|user|>", "日本", "##a", "▁b"]
    tok.add_tokens(words)
    ids = [tok.convert_tokens_to_ids(w) for w in words]
    shown = slt.token_probe("p", [ids], tok).strings
    assert [shown[i] for i in ids] == words


def test_halves_of_surrogate_pairs_can_be_stored(tmp_path):
    _, tok = slt.load("tiny-lm")
    tok.add_tokens(["x"])

    class Odd:
        """A tokenizer one of whose tokens is half a character."""

        all_special_ids, added_tokens_decoder = (), {}
        convert_ids_to_tokens = staticmethod(lambda i: "a\ud83d" if i else "b")

    probe = slt.token_probe("p", [[0, 1, 0], [1, 1, 1]], Odd(), labels=["a\udc00", "b"])
    assert probe.strings == {0: "b", 1: "a⟨U+D83D⟩"} and probe.labels == ("a⟨U+DC00⟩", "b")
    loss = slt.loss_fn({"w": np.ones(1)}, lambda p, b: p["w"] * b["input_ids"][:, 1:])
    store = tmp_path / "run.zarr"
    slt.sample(loss, probe, probes=[probe], store=store, batch_size=2, draws=2, progress=False)
    text = slt.open_run(store)["probe/p"].token_text.values
    assert text.tolist() == [["a⟨U+D83D⟩", "b"], ["a⟨U+D83D⟩", "a⟨U+D83D⟩"]]


def test_names_of_probes_fit_into_a_folder():
    with pytest.raises(slt.InputError, match="a probe name of 201 bytes"):
        slt.token_probe("x" * 201, [[1, 2]])


@pytest.fixture(scope="module")
def completion():
    """Sequences of which only the ends count, and the plain probe of the same text."""
    ids = [[5, 6, 7, 8], [9, 10, 11, 12, 13]]
    labels = [[-100, -100, 7, 8], [-100, 10, -100, -100, 13]]
    counts = [[False, True, True], [True, False, False, True]]
    return ids, labels, counts


def test_labels_and_masks_say_which_tokens_count(completion):
    ids, labels, counts = completion
    masks = [[int(v != -100) for v in row] for row in labels]
    forms = [
        {"input_ids": ids, "labels": labels},
        {"input_ids": ids, "completion_mask": masks},
        {"input_ids": ids, "assistant_masks": masks, "attention_mask": [[1] * 4, [1] * 5]},
        {  # padded on the left, as a collator does
            "input_ids": [[0, *ids[0]], ids[1]],
            "labels": [[-100, *labels[0]], labels[1]],
            "attention_mask": [[0, 1, 1, 1, 1], [1] * 5],
        },
    ]
    tr = slt.load("tiny-lm")[0]
    loss = slt.causal_lm(tr)
    plain = slt.token_probe("p", ids)
    every = loss.evaluate(loss.params, plain.tensors("cpu"))
    found = {slt.token_probe("p", form).fingerprint for form in forms}
    assert len(found) == 1 and plain.fingerprint not in found
    probe = slt.token_probe("p", forms[0])
    some = loss.evaluate(loss.params, probe.tensors("cpu"))
    for row, (mask, of_all, of_some) in enumerate(zip(counts, every, some, strict=True)):
        mask = np.array([*mask, *[False] * (4 - len(mask))])
        np.testing.assert_array_equal(of_some[mask], of_all[mask])
        assert of_some[~mask].isnan().all(), row
    # The loss that is sampled is the mean over the tokens that count.
    run = slt.sample(loss, probe, probes=[probe], batch_size=2, draws=2, chains=2, nbeta=1.0,
                     kernel=slt.SGLD(1e-9), progress=False)  # fmt: skip
    expected = float(some.nanmean())
    np.testing.assert_allclose(run.tree["sampling"].init_loss, expected, rtol=1e-5)
    text = run.tree["probe/p"].token_text.values
    assert text[0].tolist()[:3] == [probe.strings[i] for i in ids[0][1:]]  # shown, counted or not


def test_labels_that_are_other_tokens_are_refused():
    with pytest.raises(slt.InputError, match="label 6 of token 5 at position 0 of sequence 0"):
        slt.token_probe("p", {"input_ids": [[5, 6, 7]], "labels": [[6, 7, -100]]})
    with pytest.raises(slt.InputError, match="no token counts"):
        slt.token_probe("p", {"input_ids": [[5, 6, 7]], "labels": [[5, -100, -100]]})
    with pytest.raises(slt.InputError, match="labels of -100"):
        slt.token_probe("p", {"prompt": ["a"], "completion": ["b"]})


def test_columns_of_a_dataset(completion):
    datasets = pytest.importorskip("datasets")
    ids, labels, _ = completion
    made = datasets.Dataset.from_dict({"input_ids": ids, "labels": labels, "other": ["a", "b"]})
    plain = slt.token_probe("p", {"input_ids": ids, "labels": labels})
    for form in (made, made.with_format("numpy"), made.with_format("torch")):
        assert slt.token_probe("p", form).fingerprint == plain.fingerprint
