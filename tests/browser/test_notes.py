"""Notes are read, written, answered and exported in a page without a kernel."""

import json

import pytest

import slt_notebook as slt
from slt_notebook.views.base.linking import link
from tests.cases import synthetic_tree

pytestmark = pytest.mark.browser


def made(tree=None, **options):
    tree = tree or synthetic_tree()
    notes = slt.notes(tree, author="Ada")
    return tree, notes, slt.TokenStrip(tree, notes=notes, **options)


def test_notes_mark_their_tokens_and_are_listed_in_reading_order(show):
    _, notes, view = made()
    notes.add(example="train/1", tokens=(2, 4), text="second", tags=["x"])
    one = notes.add(example="train/0", tokens=3, text="first")
    notes.reply(one, "an answer", author="Grace")
    notes.add(component="l0.h1", text="a head")
    page = show(view)
    assert page.locator("[data-noted]").count() == 3
    assert page.locator("[data-note]").evaluate_all("a => a.map(s => s.dataset.note)") == ["1", "2"]
    texts = page.locator(".notes > ol > li > .body").all_text_contents()
    assert texts == ["first", "second", "a head"]
    assert "an answer" in page.locator(".notes li li").inner_text()
    assert "Grace" in page.locator(".notes li li").inner_text()
    page.locator("[data-note='2']").hover()
    assert "2. second" in page.locator(".tip").inner_text()


def test_a_note_is_written_by_keyboard_shown_in_linked_views_and_downloaded(show, tmp_path):
    tree, notes, view = made()
    other = slt.InfluenceExplorer(tree, notes=notes)
    link(view, other)
    page = show(view, other)
    page.locator(".strip").first.focus()
    press = page.keyboard.press
    press("Control+Home")
    press("ArrowRight")
    press("Shift+ArrowRight")
    press("a")
    writer = page.get_by_role("dialog")
    assert page.evaluate("document.activeElement.tagName") == "TEXTAREA"
    page.keyboard.type("These two <b>belong</b> together")
    press("Tab")
    press("Tab")
    page.keyboard.type("pair, check")
    press("Control+Enter")
    assert writer.count() == 0
    assert page.evaluate("document.activeElement.matches('.strip')")
    for nth in (0, 1):
        assert page.locator(".strip").nth(nth).locator("[data-noted]").count() == 2
    assert page.locator(".slt b", has_text="belong").count() == 0
    with page.expect_download() as caught:
        page.get_by_role("button", name="Download notes").first.click()
    caught.value.save_as(tmp_path / "notes.jsonl")
    # What the page gives, Python takes: the same note on the same tokens.
    assert notes.merge(tmp_path / "notes.jsonl") == 1
    (note,) = notes.list()
    assert note["creator"]["name"] == "Ada"
    corpus = other._losses.corpus
    marks, listed = notes.placed(corpus)
    assert marks.index("1") == 2
    assert listed[0][2] == "These two <b>belong</b> together"
    assert [b["value"] for b in note["body"][1:]] == ["pair", "check"]
    line = (tmp_path / "notes.jsonl").read_text().splitlines()[0]
    assert json.loads(line)["type"] == "Annotation"


def test_notes_are_answered_resolved_and_deleted(show):
    _, notes, view = made()
    notes.add(example="train/0", tokens=3, text="look")
    page = show(view)
    page.get_by_role("button", name="Reply").click()
    page.keyboard.type("I see")
    page.get_by_role("button", name="Save note").click()
    assert page.locator(".notes li li .body").text_content() == "I see"
    page.get_by_role("button", name="Resolve").click()
    assert page.locator(".notes li.done").count() == 1
    page.get_by_role("button", name="Open again").click()
    assert page.locator(".notes li.done").count() == 0
    page.get_by_role("button", name="Delete: look").click()
    assert page.locator("[data-noted]").count() == 0


def test_a_note_whose_text_is_gone_is_listed_as_such(show):
    _, notes, _ = made()
    notes.add(example="train/0", tokens=(1, 4), text="an orphan")
    view = slt.TokenStrip([1.0, 2.0], ["quite", " other"], notes=notes)
    page = show(view)
    assert "its text is not in this view" in page.locator(".notes").inner_text()
    assert "an orphan" in page.locator(".notes").inner_text()


def test_escape_leaves_without_a_note(show):
    page = show(made()[2])
    page.locator(".strip").focus()
    page.keyboard.press("a")
    page.keyboard.type("never mind")
    page.keyboard.press("Escape")
    assert page.get_by_role("dialog").count() == 0
    assert page.locator(".notes").is_hidden()


def test_notes_on_their_own_are_a_list(show):
    _, notes, _ = made()
    notes.add(example="train/0", tokens=3, text="alone")
    page = show(notes)
    assert "train/0 · 3" in page.locator(".notes").inner_text()
    page.get_by_role("button", name="Resolve").click()
    assert page.locator(".notes li.done .body").text_content() == "alone"
