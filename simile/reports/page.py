"""The HTML document around the blocks: one file that needs nothing else."""

from collections.abc import Iterable
from importlib.resources import files

from simile.reports.markup import Block, environment


def theme() -> str:
    """Return the style sheet that all pages share: named colours, light and dark, and fonts."""
    return _read("theme.css")


def page(title: str, subtitle: str, blocks: Iterable[Block]) -> str:
    """Return the HTML document, also well-formed as XML; the same blocks give the same bytes."""
    style = Block(f"{theme()}\n{_read('style.css')}")
    return environment().get_template("page.html").render(title=title, subtitle=subtitle, blocks=blocks, style=style)


def _read(name: str) -> str:
    return files("simile.reports").joinpath(name).read_text("utf-8")
