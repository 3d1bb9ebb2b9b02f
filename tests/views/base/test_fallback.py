"""What script-free readers see is inert and complete."""

from html.parser import HTMLParser

import pytest

import slt_notebook as slt
from slt_notebook.views.base import fallback
from tests.cases import synthetic_tree

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</p></div><script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "' style='x",
    "&lt;b&gt;",
    "\x00\ud800\u202e",
    "<!--",
]


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text_everywhere(text):
    notes = slt.notes()
    notes.add(text=text, author=text, component=text)
    strip = slt.TokenStrip([1.0, -2.0], [text, text], examples=[text], notes=notes, title=text)
    for html in (strip.fallback(), notes.fallback()):
        html.encode()  # nothing that a page cannot hold
        tags = Tags()
        tags.feed(html)
        allowed = {
            *(
                [
                    "div",
                    "p",
                    "strong",
                    "span",
                    "table",
                    "caption",
                    "thead",
                    "tbody",
                    "tr",
                    "th",
                    "td",
                    "ol",
                    "li",
                    "cite",
                    "small",
                    "sup",
                ]
            ),
        }
        assert {tag for tag, _ in tags.seen} <= allowed
        assert {key for _, attrs in tags.seen for key in attrs} <= {"style", "scope"}
        plain = fallback._UNPRINTABLE.sub("\ufffd", text)
        assert plain in tags.text


def test_marks_point_to_the_numbered_notes():
    tree = synthetic_tree()
    notes = slt.notes(tree)
    notes.add(example="train/1", tokens=(2, 4), text="second place")
    notes.add(example="train/0", tokens=3, text="first place")
    html = slt.TokenStrip(tree, notes=notes).fallback()
    assert html.index("first place") < html.index("second place")
    assert html.index("<sup>[1]</sup>") < html.index("<sup>[2]</sup>")


def test_numbers_read_like_numbers():
    assert fallback.number(float("nan")) == "no value"
    assert fallback.number(1234.5678) == "1.23e+03"
    assert fallback.background(-1.0, 1.0) == "background:rgba(38,104,200,0.55)"
    assert fallback.background(1.0, 1.0, sure=False) == ""
