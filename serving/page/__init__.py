"""Two web pages: compare texts by hand (``/``), and the API (``/docs``). They load nothing from other servers."""

from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import Response

from simile.reports import theme

_HEADERS = {
    # results.js and heatmap.js set styles of single elements by script, which style-src does not restrict.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}
_FILES = {"/": "index.html", "/docs": "docs.html"}
_SCRIPTS = ("page.js", "api.js", "entries.js", "results.js", "table.js", "heatmap.js", "docs.js", "shared.js")
_FILES |= {f"/{name}": name for name in ("page.css", *_SCRIPTS)}
PATHS = tuple(_FILES)

router = APIRouter(include_in_schema=False)


def _serve(path: str, name: str) -> None:
    content = files(__name__).joinpath(name).read_text("utf-8")
    if name == "page.css":
        content = f"{theme()}\n{content}"
    media_type = "text/" + name.rpartition(".")[2].replace("js", "javascript")

    async def page() -> Response:
        return Response(content, media_type=media_type, headers=_HEADERS)

    router.add_api_route(path, page, methods=["GET", "HEAD"])


for _path, _name in _FILES.items():
    _serve(_path, _name)
