"""What is wrong with the pages of a site: requests to outside, broken links, and what shuts readers out.

Checked by the tests on every page, and the figures' alt text when the site is written.
"""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


@dataclass
class Outline:
    """What a page consists of, as far as links and accessibility go."""

    ids: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    images: list[dict[str, str | None]] = field(default_factory=list)
    headings: list[int] = field(default_factory=list)
    cells: list[dict[str, str | None]] = field(default_factory=list)
    first_link: str = ""
    language: str = ""
    title: str = ""
    mains: list[str] = field(default_factory=list)


class _Reader(HTMLParser):
    """Fills an `Outline`; what stands in scripts, styles and drawings' definitions is not read."""

    def __init__(self) -> None:
        super().__init__()
        self.page = Outline()
        self._in: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag not in VOID:
            self._in.append(tag)
        if found.get("id"):
            self.page.ids.append(str(found["id"]))
        if tag == "html":
            self.page.language = found.get("lang") or ""
        elif tag == "a" and found.get("href"):
            self.page.links.append(str(found["href"]))
            self.page.first_link = self.page.first_link or str(found["href"])
        elif tag in ("img", "script", "iframe") and found.get("src"):
            self.page.links.append(str(found["src"]))
        elif tag == "link" and found.get("href"):
            self.page.links.append(str(found["href"]))
        elif tag == "th":
            self.page.cells.append(found)
        elif tag == "main":
            self.page.mains.append(str(found.get("id") or ""))
        elif re.fullmatch("h[1-6]", tag):
            self.page.headings.append(int(tag[1]))
        if tag == "img":
            self.page.images.append(found)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._in:
            while self._in.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if self._in[-1:] == ["title"] and "svg" not in self._in:
            self.page.title += data


def outline(html: str) -> Outline:
    """Read a page."""
    reader = _Reader()
    reader.feed(html)
    return reader.page


def outside_requests(page: Path) -> list[str]:
    """Addresses outside the site that opening a page would load (links a reader may click are not counted)."""
    text = page.read_text(encoding="utf-8")
    loaded = re.findall(r"<(?:script|img|iframe|source|video)[^>]+src=[\"']((?:https?:)?//[^\"']+)", text)
    loaded += re.findall(r"<link[^>]+href=[\"']((?:https?:)?//[^\"']+)", text)
    loaded += re.findall(r"@import\s+(?:url\()?[\"']?((?:https?:)?//[^\"')]+)", text)
    loaded += re.findall(r"\bimport\s*\(?\s*[\"']((?:https?:)?//[^\"']+)", text)
    return loaded


def broken_links(site: Path) -> list[str]:
    """`page: address` for every link inside a site that leads to no file, or to no anchor of its page."""
    pages = {path.name: outline(path.read_text(encoding="utf-8")) for path in sorted(site.glob("*.html"))}
    broken = []
    for name, page in pages.items():
        for link in dict.fromkeys(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = unquote(parts.path) or name
            if not (site / target).exists():
                broken.append(f"{name}: {link}")
            elif parts.fragment and target in pages:
                ids = pages[target].ids
                if parts.fragment not in ids and unquote(parts.fragment) not in ids:
                    broken.append(f"{name}: {link}")
    return broken


def shut_out(html: str) -> list[str]:
    """What keeps readers with assistive software out of a page, in words."""
    page = outline(html)
    found = []
    if not page.language:
        found.append("the page does not say its language")
    if not page.title.strip():
        found.append("the page has no title")
    if len(page.mains) != 1 or page.first_link != f"#{page.mains[0]}":
        found.append("the first link does not skip to the one main part")
    if page.headings[:1] != [1] or page.headings.count(1) != 1:
        found.append(f"headings do not begin with the only one of level 1: {page.headings[:5]}")
    for before, after in zip(page.headings, page.headings[1:], strict=False):
        if after > before + 1:
            found.append(f"a heading of level {after} follows one of level {before}")
    found += ["a picture has no alt text" for image in page.images if not (image.get("alt") or "").strip()]
    found += ["a table's head has no scope" for cell in page.cells if not cell.get("scope")]
    twice = sorted({one for one in page.ids if page.ids.count(one) > 1})
    return found + [f"the id {one!r} is given twice" for one in twice]
