"""The document around the blocks: one file that needs nothing else."""

from collections.abc import Iterable
from importlib.resources import files

from simile.reports.markup import Block, element, joined

# Whatever slipped into a page could load nothing and run nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def theme() -> str:
    """Return the style of every page, reports or not: colours by their names, light and dark, and fonts."""
    return _read("theme.css")


def _read(name: str) -> str:
    return files("simile.reports").joinpath(name).read_text("utf-8")


def page(title: str, subtitle: str, blocks: Iterable[Block]) -> str:
    """Return the HTML document: well-formed as XML too, with its style inside, the same for the same blocks."""
    style = Block(f"<style>\n{theme()}\n{_read('style.css')}</style>")
    head = element(
        "head",
        Block('<meta charset="utf-8"/>'),
        Block('<meta name="viewport" content="width=device-width, initial-scale=1"/>'),
        Block('<meta name="color-scheme" content="light dark"/>'),
        Block(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"/>'),
        element("title", title),
        style,
    )
    header = element("header", element("h1", title), element("p", subtitle))
    body = element("body", header, element("main", *blocks))
    return joined([Block("<!DOCTYPE html>\n"), element("html", head, body, lang="en"), "\n"]).markup
