"""Clean foreign HTML for an exported page: nothing that runs, nothing that loads.

Outputs of a notebook (data frames, xarray cards) are HTML made by libraries from data.  The page's
Content-Security-Policy already lets no script run but the page's own; this takes the dead parts
out, so that the page is quiet too, and says where something visible is gone.
"""

import re

from bs4 import BeautifulSoup
from bs4.element import Tag

_DROP = ("script", "base", "meta", "link", "noscript", "template", "dialog")
_FRAMES = ("iframe", "object", "embed", "applet", "frame", "portal")
_MEDIA = ("img", "video", "audio", "source", "track", "image", "use", "input", "feimage")
_ADDRESSES = ("src", "href", "xlink:href", "action", "formaction", "poster", "data", "background")
_SAFE_SCHEME = re.compile(r"^(?:https?|mailto|ftp|file):", re.IGNORECASE)
_ANY_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_SAFE_DATA = re.compile(
    r"^data:(?:image/(?:png|jpeg|gif|webp|avif|svg\+xml)|text/csv)[;,]", re.IGNORECASE
)
_CSS_FETCH = re.compile(
    r"@import[^;]*;?|(?:url|image|image-set|src)\(\s*['\"]?\s*(?!data:|#)[^)]*\)", re.IGNORECASE
)
_CONTROL = re.compile(r"[\x00-\x20]+")


def clean(html: str) -> str:
    """`html` without scripts, event handlers, frames, and anything fetched from elsewhere.

    Kept: markup, styles, inline SVG and MathML, images given as data, links that a reader may
    follow.  Ids and attributes that the page itself uses (`slt-...`, `data-slt-...`) are taken off.
    """
    if "<" not in html:
        return html
    soup = BeautifulSoup(html, "html.parser")
    for tag in soup.find_all(_DROP):
        if tag.name == "noscript":
            tag.unwrap()
        else:
            tag.decompose()
    for tag in soup.find_all(_FRAMES):
        _replace(soup, tag, "a frame", str(tag.get("src") or tag.get("data") or ""))
    for tag in soup.find_all("style"):
        tag.string = _CSS_FETCH.sub("none", tag.get_text())
    for tag in soup.find_all(True):
        if tag.parent is not None or tag is soup:
            _attributes(soup, tag)
    return str(soup)


def _attributes(soup: BeautifulSoup, tag: Tag) -> None:
    for name in list(tag.attrs):
        value = tag.attrs[name]
        text = " ".join(value) if isinstance(value, list) else str(value)
        low = name.lower()
        ours = low.startswith("data-slt") or (low in ("id", "name") and text.startswith("slt-"))
        if low.startswith("on") or low in ("srcdoc", "srcset", "ping", "nonce") or ours:
            del tag.attrs[name]
        elif low == "style":
            tag.attrs[name] = _CSS_FETCH.sub("none", text)
        elif low in _ADDRESSES and not _address(soup, tag, name, _CONTROL.sub("", text)):
            return


def _address(soup: BeautifulSoup, tag: Tag, name: str, address: str) -> bool:
    """Check one address; False when the whole tag was replaced."""
    if address.startswith("#") or _SAFE_DATA.match(address):
        return True
    if tag.name in _MEDIA:
        _replace(soup, tag, str(tag.get("alt") or "a picture"), address)
        return False
    if _ANY_SCHEME.match(address) and not _SAFE_SCHEME.match(address):
        del tag.attrs[name]
    elif tag.name == "a":
        tag.attrs["rel"] = "noopener noreferrer"
    return True


def _replace(soup: BeautifulSoup, tag: Tag, what: str, address: str) -> None:
    note = soup.new_tag("span", attrs={"class": "left-out"})
    shown = address if len(address) <= 120 and not address.startswith("data:") else ""
    note.string = f"[{what}: not in this file{', ' + shown if shown else ''}]"
    tag.replace_with(note)
