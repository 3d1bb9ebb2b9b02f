"""Foreign HTML loses what runs and what loads, and nothing else."""

import re

import pytest
from bs4 import BeautifulSoup

from slt_notebook.share.clean import clean

DEAD = ("script", "iframe", "object", "embed", "base", "meta", "link")

ATTACKS = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)></svg>",
    "<svg><script>alert(1)</script></svg>",
    "<a href='javascript:alert(1)'>x</a>",
    "<a href=' jav\tascript:alert(1)'>x</a>",
    "<a href='vbscript:x'>x</a>",
    "<iframe src='https://evil.example'></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<object data='https://evil.example/x.swf'></object>",
    "<embed src='https://evil.example/x'>",
    "<base href='https://evil.example/'>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<link rel=stylesheet href='https://evil.example/x.css'>",
    "<form action='javascript:alert(1)'><button formaction='javascript:alert(1)'>x</button></form>",
    "<img src='https://evil.example/pixel.gif'>",
    "<img srcset='https://evil.example/pixel.gif 1x'>",
    "<video poster='https://evil.example/p.gif' src='https://evil.example/v.mp4'></video>",
    "<p style=\"background:url('https://evil.example/x')\">x</p>",
    "<style>@import 'https://evil.example/x.css'; p{background:url(https://evil.example/y)}</style>",
    "<svg><image href='https://evil.example/x.png'></image></svg>",
    "<svg><use href='https://evil.example/x.svg#a'></use></svg>",
    "<a href='data:text/html,<script>alert(1)</script>'>x</a>",
    "<math><mi xlink:href='javascript:alert(1)'>x</mi></math>",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_runs_and_nothing_is_fetched(attack):
    for tag in BeautifulSoup(clean(attack), "html.parser").find_all(True):
        assert tag.name not in DEAD
        for name, value in tag.attrs.items():
            text = "".join(str(value).split()).lower()
            assert not name.lower().startswith("on")
            assert name.lower() not in ("srcset", "srcdoc", "poster")
            assert not re.match(r"(javascript|vbscript|data:text/html)", text)
            assert name == "href" or "evil.example" not in text
        if tag.name == "style":
            assert "evil.example" not in tag.get_text()
        assert tag.name == "a" or "href" not in tag.attrs


def test_the_pages_own_marks_cannot_be_forged():
    found = clean('<div id="slt-page-data" data-slt-model="x">a</div><p id="mine">b</p>')
    assert found == '<div>a</div><p id="mine">b</p>'


def test_the_rest_stays():
    kept = [
        "<table><tr><td>a &lt;b&gt; c</td></tr></table>",
        '<style>p{color:red}</style><p style="color:red">x</p>',
        '<img alt="x" src="data:image/png;base64,AAAA"/>',
        '<a download="a.csv" href="data:text/csv;base64,AAAA">x</a>',
        '<a href="#there">x</a>',
        "plain text",
    ]
    for html in kept:
        assert clean(html) == html
    assert 'viewbox="0 0 1 1"' in clean('<svg viewBox="0 0 1 1"></svg>').lower()
    link = clean('<a href="https://arxiv.org/abs/2308.12108">x</a>')
    assert 'href="https://arxiv.org/abs/2308.12108"' in link
    assert "noopener" in link


def test_what_is_gone_is_said():
    assert "not in this file, https://evil.example/a.gif" in clean(
        "<img alt='a plot' src='https://evil.example/a.gif'>"
    )
