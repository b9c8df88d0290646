"""Markup that is escaped by construction: a string is text, and only `element` makes tags."""

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass

# Neither XML nor HTML can hold these, and a lone surrogate cannot be written as UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Block:
    """A finished piece of a page; made by this package's functions, so its markup is safe and well-formed."""

    markup: str


def element(name: str, *children: Block | str, **attributes: str | int | None) -> Block:
    """Return the element; string children and attribute values are escaped, attributes that are None left out.

    ``class_`` is written as ``class``, ``aria_label`` as ``aria-label``.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Block(f"<{name}{written}>{joined(children).markup}</{name}>")


def joined(children: Iterable[Block | str]) -> Block:
    """Return the children one after another, strings escaped."""
    return Block("".join(child.markup if isinstance(child, Block) else escaped(child) for child in children))


def escaped(text: str) -> str:
    """Return the text as HTML and XML can hold it, with U+FFFD for what neither can."""
    return html.escape(_UNPRINTABLE.sub("\ufffd", text))


NOTHING = element("p", "None.", class_="empty")
