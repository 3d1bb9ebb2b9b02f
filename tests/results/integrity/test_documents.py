"""Changed notes files and pages are found, whichever byte was changed."""

import json

import numpy as np
import pytest

import slt_notebook as slt
from slt_notebook.cli import main
from slt_notebook.errors import StoreError
from slt_notebook.results.integrity.documents import LINE_KEYS, check_document
from slt_notebook.results.integrity.repair import repair
from slt_notebook.share.page import widgets_page


@pytest.fixture
def notes(tmp_path):
    path = tmp_path / "run.zarr.notes.jsonl"
    found = slt.notes(path, author="Ada")
    first = found.add(text="the loss falls here — and only here")
    found.reply(first, "why?", author="Émile")
    found.resolve(first)
    return path


def test_notes_carry_digests_that_no_reader_sees(notes):
    lines = [json.loads(line) for line in notes.read_text().splitlines()]
    assert len(lines) == 3 and all(set(LINE_KEYS) <= set(line) for line in lines)
    assert not any(set(LINE_KEYS) & set(item) for item in slt.notes(notes).items)
    found = slt.check(notes)
    assert found.ok and "complete; 3 versions of notes" in str(found) and "sha256" in str(found)


def test_every_byte_of_a_notes_file(notes):
    good = notes.read_bytes()
    for place in range(len(good) - 1):  # the last is the end of the last line
        bad = bytearray(good)
        bad[place] ^= 1 << (place % 8)
        notes.write_bytes(bytes(bad))
        try:
            same = json.dumps([json.loads(s) for s in bad.splitlines()]) == json.dumps(
                [json.loads(s) for s in good.splitlines()]
            )
        except ValueError:
            same = False
        assert same or not slt.check(notes).ok, place


def test_notes_of_before_and_torn_and_foreign_lines(notes, tmp_path):
    lines = notes.read_text().splitlines()
    plain = [{k: v for k, v in json.loads(s).items() if k not in LINE_KEYS} for s in lines]
    old = tmp_path / "old.jsonl"
    old.write_text("".join(json.dumps(s) + "\n" for s in plain))
    found = slt.check(old)
    assert found.ok and "checksums: none" in str(found)
    old.write_text('{"id": 1}\n' + lines[0] + "\n" + lines[1][:50])
    words = str(slt.check(old))
    assert "line 1: is no note" in words and "line 3: it was cut off" in words
    said = repair(old)
    assert len(said) == 2 and slt.check(old).ok
    assert [i["id"] for i in slt.notes(old).items] == [json.loads(lines[0])["id"]]
    assert repair(old) == []


def test_a_changed_note_is_told_and_stays(notes, capsys):
    notes.write_text(notes.read_text().replace("only here", "not here"))
    assert main(["check", str(notes)]) == 1
    assert "line 1: does not match its digest" in capsys.readouterr().out
    assert repair(notes) == [] and len(slt.notes(notes).items) == 2


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("pages") / "page.html"
    path.write_text(widgets_page([("markdown", "# Title"), slt.notes()]), encoding="utf-8")
    return path


def test_a_page_is_checked(page, tmp_path):
    assert slt.check(page).ok and "1 interactive views" in str(slt.check(page))
    assert main(["check", str(page)]) == 0
    good = page.read_bytes()
    rng = np.random.default_rng(0)
    other = tmp_path / "other.html"
    for place in [*rng.integers(0, len(good), 100), *range(0, 1500, 7)]:
        bad = bytearray(good)
        bad[place] ^= 1 << int(place % 8)
        other.write_bytes(bytes(bad))
        try:
            assert not slt.check(other).ok, place
        except StoreError:
            assert place < 100  # no longer recognized as a page of ours
    with pytest.raises(StoreError, match="export the page again"):
        repair(other)


def test_a_page_of_before_is_judged_by_its_structure(page, tmp_path):
    other = tmp_path / "old.html"
    text = page.read_text(encoding="utf-8")
    meta = text[text.index('<meta name="slt-digest"') :].split("\n")[0]
    plain = text.replace(meta + "\n", "").replace('data-slt-page="2"', "data-slt-page")
    other.write_text(plain, encoding="utf-8")
    assert slt.check(other).ok and "checksums: none" in str(slt.check(other))
    for bad, words in (
        (plain[:-30], "the end of the page"),
        (plain.replace('"models":', '"model":'), "cannot be read"),
        (plain.replace("</script>\n</body>", " </script>\n</body>"), "the script"),
    ):
        other.write_text(bad, encoding="utf-8")
        assert words in str(slt.check(other))
    other.write_text("<html></html>")
    with pytest.raises(StoreError, match="did not make"):
        check_document(other)
