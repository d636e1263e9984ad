"""What tests of HTML files share: what a page refers to, whether it is balanced, whether its pictures load."""

from __future__ import annotations

from html.parser import HTMLParser

from playwright.sync_api import Frame
from playwright.sync_api import Page as BrowserPage

NASTY = """Hans & "Anna's" <b>v.2</b>.jpg"""


class Page(HTMLParser):
    """Collects what a page refers to, its text, and whether its tags are balanced."""

    void = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.text: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [value for name, value in attrs if name in ("src", "href", "xlink:href", "srcset") and value]
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.void:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"{tag} closed out of order"

    def handle_data(self, data):
        self.text.append(data)

    @property
    def whole_text(self) -> str:
        return " ".join(self.text)


def parse(path) -> Page:
    page = Page(path.read_text(encoding="utf-8"))
    assert not page.open, f"not closed: {page.open}"
    return page


def outside(page: Page) -> list[str]:
    """Return what a page refers to beyond itself."""
    return [reference for reference in page.references if not reference.startswith(("data:", "#"))]


def unloaded(page: BrowserPage | Frame) -> list[str]:
    """Return which pictures of a page do not decode, those below the fold included."""
    return page.evaluate(
        """async () => {
            const failed = [];
            for (const image of document.querySelectorAll('image, img')) {
                const copy = new Image();
                copy.src = image.getAttribute('href') ?? image.src;
                await copy.decode().catch(() => {});
                if (!copy.naturalWidth) failed.push(image.id || image.alt || 'tint');
            }
            return failed;
        }"""
    )
