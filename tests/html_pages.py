"""What tests of HTML files share: a parser that sees what a page refers to and whether it is balanced."""

from __future__ import annotations

from html.parser import HTMLParser

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
