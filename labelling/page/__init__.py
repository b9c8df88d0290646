"""The labelling page: its files, read once. No other file has an address."""

from importlib.resources import files

from simile.reports import theme

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}


def contents() -> dict[str, tuple[str, str]]:
    """Return content and media type of each address of the page."""
    names = {"/": "index.html"} | {f"/{name}": name for name in ("page.css", "page.js", "guidelines.js")}
    return {path: (_content(name), _TYPES[name.rpartition(".")[2]]) for path, name in names.items()}


def _content(name: str) -> str:
    content = files(__name__).joinpath(name).read_text("utf-8")
    return f"{theme()}\n{content}" if name == "page.css" else content
