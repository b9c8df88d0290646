"""Markup from the package's Jinja templates: every value is escaped, except a `Block`."""

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

# Neither XML nor HTML can hold these characters, and UTF-8 cannot encode a lone surrogate.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Block:
    """A finished, well-formed piece of a page; only the functions of this package make one."""

    markup: str

    def __html__(self) -> str:
        """Return the markup, which Jinja inserts without escaping."""
        return self.markup


def render(name: str, **values: Any) -> Block:
    """Return the output of a macro of ``templates/blocks.html``."""
    return Block(str(getattr(environment().get_template("blocks.html").module, name)(**values)).strip())


@cache
def environment() -> "Environment":
    """Return the Jinja environment of the templates, with autoescape."""
    # The serving extras do not bring Jinja, and the service uses `theme` only.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("simile.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def printable(text: str) -> str:
    """Return the text with U+FFFD in place of each character that HTML cannot hold."""
    return _UNPRINTABLE.sub("\ufffd", text)
