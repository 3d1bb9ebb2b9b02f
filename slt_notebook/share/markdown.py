"""Turn Markdown with formulas into HTML that needs no network.

nbconvert's own Markdown, with formulas as MathML (which browsers show without a script) instead of
text that waits for MathJax from a CDN.
"""

import html
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from slt_notebook.share.clean import clean

_MACROS = {r"\R": r"\mathbb{R}", r"\E": r"\mathbb{E}"}
_TAG = re.compile(r"\\(?:label|tag)\{[^}]*\}|\\nonumber\b")


def mathml(latex: str, block: bool = False) -> str:
    r"""One formula as MathML; what cannot be typeset is shown as its LaTeX source.

    >>> mathml("x^2")[:5]
    '<math'
    """
    source = _TAG.sub("", latex).strip()
    for name, meaning in _MACROS.items():
        source = re.sub(re.escape(name) + r"(?![A-Za-z])", lambda _, m=meaning: m, source)
    try:
        found = convert(source, display="block" if block else "inline")
    except Exception:  # the converter raises many kinds; the source is always readable
        found = ""
    if not found.startswith("<math") or "<merror" in found:
        kind = "div" if block else "span"
        return f'<{kind} class="latex"><code>{html.escape(latex.strip())}</code></{kind}>'
    # The converter does not escape everything that a text command may hold.
    return f'<div class="formula">{clean(found)}</div>' if block else clean(found)


class _Renderer(IPythonRenderer):
    def block_math(self, body: str) -> str:
        return mathml(body, block=True)

    def latex_environment(self, name: str, body: str) -> str:
        inner = body if name in ("equation", "equation*", "displaymath") else None
        return mathml(inner or rf"\begin{{{name}}}{body}\end{{{name}}}", block=True)

    def inline_math(self, body: str) -> str:
        return mathml(body)

    def block_mermaidjs(self, code: str) -> str:
        return f"<pre><code>{html.escape(code)}</code></pre>"


def render(
    source: str, attachments: dict[str, Any] | None = None, folder: Path | None = None
) -> str:
    """Markdown as HTML, scripts and remote pictures taken out.

    Args:
        source: Markdown.
        attachments: of a notebook's cell.
        folder: where the notebook lies; pictures below it are embedded.
    """
    renderer = _Renderer(
        escape=False,
        embed_images=folder is not None,
        exclude_anchor_links=True,
        path=str(folder or ""),
        attachments=attachments or {},
    )
    return clean(MarkdownWithMath(renderer=renderer).render(source))
