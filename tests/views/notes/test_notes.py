"""Notes are kept, merged and found again, and never lost."""

import json

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import slt_notebook as slt
from slt_notebook.errors import StoreError
from slt_notebook.views.base.corpus import of_values
from slt_notebook.views.notes import annotation
from slt_notebook.views.notes.notes import notes_path, read_notes
from tests.cases import synthetic_tree


def corpus(*rows, ids=None, first=1):
    wide = max(map(len, rows))
    values = xr.DataArray(
        np.array([[0.0] * len(r) + [np.nan] * (wide - len(r)) for r in rows]),
        dims=("example", "token"),
        coords={"token": np.arange(first, first + wide)},
    )
    return of_values(values, [list(r) for r in rows], ids or [f"t/{i}" for i in range(len(rows))])


BASE = corpus(["The", " cat", " sat", " on", " the", " mat", "."], [" the", " dog", " the", " dog"])


def on(example, tokens, where=BASE):
    return annotation.note(annotation.on_tokens("slt:run/x", example, tokens, where), "look")


def test_a_note_stands_where_it_was_written():
    assert annotation.anchor(on("t/0", (2, 4)), BASE) == (1, 3, "dims")


def test_it_is_found_again_after_another_tokenization():
    other = corpus(["Th", "e ", "ca", "t sat", " o", "n the", " mat."], [" the dog", " the dog"])
    assert annotation.anchor(on("t/0", (2, 4)), other) == (1, 4, "quote")


def test_it_is_found_again_in_an_example_of_another_name_or_place():
    moved = corpus(["x"], ["Yes", ": ", "The", " cat", " sat", " on", " the"], ids=["a", "b"])
    found = annotation.anchor(on("t/0", (2, 4)), moved)
    assert found == (4, 6, "quote")


def test_of_two_like_places_the_one_with_its_surroundings_is_taken():
    shifted = corpus(["a", " the", " dog", " the", " dog"])
    second = annotation.anchor(on("t/1", (4, 5)), shifted)
    assert second == (4, 5, "quote")


def test_a_short_word_elsewhere_is_an_orphan():
    assert annotation.anchor(on("t/0", (5, 6)), corpus(["Under", " the", " bridge"])) is None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([" a", "b", "\n", " cd", "é", "  "]), min_size=3, max_size=12),
    st.data(),
)
def test_any_span_anchors_to_itself(words, data):
    here = corpus(words)
    a = data.draw(st.integers(1, len(words)))
    b = data.draw(st.integers(a + 1, len(words) + 1))
    assert annotation.anchor(on("t/0", (a, b), here), here) == (a - 1, b - 1, "dims")


def test_file_is_append_only_and_read_back(tmp_path):
    path = tmp_path / "a.zarr"
    first = slt.notes(notes_path(path), author="Ada")
    one = first.add(text="one", component="l0.h3", tags=["head"])
    before = notes_path(path).read_bytes()
    first.reply(one, "yes")
    first.resolve(one)
    assert notes_path(path).read_bytes().startswith(before)
    again = slt.notes(notes_path(path))
    assert again.items == first.items
    assert [n[annotation.STATUS] for n in again.list()] == ["resolved", "open"]
    assert again.list(resolved=False)[0]["motivation"] == "replying"


def test_annotations_are_what_the_recommendation_says():
    made = on("t/0", (2, 4))
    assert made["@context"] == "http://www.w3.org/ns/anno.jsonld"
    assert made["type"] == "Annotation" and made["id"].startswith("urn:uuid:")
    quote, dims = made["target"]["selector"]
    assert quote == {
        "type": "TextQuoteSelector",
        "exact": " cat sat",
        "prefix": "The",
        "suffix": " on the mat.",
    }
    assert dims["dims"] == {"example": "t/0", "token": [2, 4]}
    json.dumps(made)


def test_merge_is_a_union_in_which_the_newest_wins_and_tombstones_stay(tmp_path):
    mine = slt.notes()
    a = mine.add(text="a")
    theirs = slt.notes()
    theirs.merge(mine)
    mine.delete(a)
    b = theirs.add(text="b")
    assert mine.merge(theirs) == 1
    assert [n["id"] for n in mine.list()] == [b]
    theirs.merge(mine)
    assert theirs.items == mine.items
    saved = mine.save(tmp_path / "x.zarr")
    assert len(read_notes(saved)) == 2
    third = slt.notes()
    assert third.merge(saved) == 2 and [n["id"] for n in third.list()] == [b]


@given(st.permutations(range(4)))
@settings(max_examples=24, deadline=None)
def test_union_does_not_depend_on_the_order(order):
    base = annotation.note({"source": "x"}, "t")
    versions = [{**base, "modified": f"2026-01-01T00:00:0{i}.000Z"} for i in range(3)]
    versions.append(annotation.note({"source": "x"}, "u"))
    merged = annotation.union(*([versions[i]] for i in order))
    assert {n["id"]: n["modified"] for n in merged} == {
        n["id"]: n["modified"] for n in (versions[2], versions[3])
    }


def test_what_the_browser_writes_reaches_the_file(tmp_path):
    notes = slt.notes(tmp_path / "b.zarr.notes.jsonl")
    made = on("t/0", (1, 2))
    notes.set_state({"items": [made]})
    assert read_notes(tmp_path / "b.zarr.notes.jsonl") == [made]


def test_a_torn_last_line_is_passed_over_and_a_torn_middle_is_named(tmp_path):
    path = tmp_path / "c.zarr.notes.jsonl"
    notes = slt.notes(path)
    notes.add(text="kept")
    with open(path, "a") as file:
        file.write('{"id": "urn')
    assert len(read_notes(path)) == 1
    with open(path, "a") as file:
        file.write("\n" + json.dumps(on("t/0", (1, 2))) + "\n")
    with pytest.raises(StoreError, match="line 2"):
        read_notes(path)


def test_a_note_added_after_a_torn_line_starts_a_line_of_its_own(tmp_path):
    path = tmp_path / "d.zarr.notes.jsonl"
    slt.notes(path).add(text="one")
    path.write_text(path.read_text() + '{"id": "urn')
    slt.notes(path).add(text="two")
    assert [annotation.text_of(n) for n in slt.notes(path).list()] == ["one", "two"]


def test_orphans_are_listed():
    tree = synthetic_tree()
    notes = slt.notes(tree)
    notes.add(example="train/0", tokens=(1, 3), text="here")
    assert notes.orphans() == []
    assert len(notes.orphans(corpus(["nothing", " alike"]))) == 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda n: n.add(text=" "), "some words"),
        (lambda n: n.add(text="x", example="train/0"), "example and tokens"),
        (lambda n: n.add(text="x", example="train/9", tokens=1), "tokens of train/0"),
        (lambda n: n.add(text="x", example="train/0", tokens=(3, 3)), "past the last"),
        (lambda n: n.reply("urn:none", "x"), "the id of a note"),
        (lambda n: n.save(), "where to keep"),
        (lambda n: n.merge([{"id": 1}]), "an annotation with"),
    ],
)
def test_bad_input_is_refused_in_words(call, words):
    with pytest.raises(slt.InputError) as caught:
        call(slt.notes(synthetic_tree()))
    assert words in str(caught.value)
