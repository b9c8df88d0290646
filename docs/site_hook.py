"""The hook of mkdocs.yml: README.md is the home page, and links to repository files work in the site.

A page may link to a file outside docs/ (``../examples/run.yaml``), as it must to be readable in the repository. The
site then holds a copy of that file under ``source/``. A link to a folder becomes plain text.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_ROOT = Path(__file__).parent.parent
_HOME = "index.md"
_PAGES = {"README.md": _HOME, "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""Files of the repository's root that are pages of the site."""
_LINK = re.compile(r"\[(?P<text>(?:[^\[\]]|!\[[^\]]*\]\([^)]*\))*)\]\((?P<target>[^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the root's pages, and every file that a page links to outside docs/."""
    for source, page in _PAGES.items():
        files.append(File.generated(config, page, content=(_ROOT / source).read_text(encoding="utf-8")))
    linked = {path for file in list(files.documentation_pages()) for path in _linked_files(file)}
    for path in sorted(linked):
        files.append(File.generated(config, _copy_of(path), content=(_ROOT / path).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Rewrite links between the repository's folders into links of the site."""

    def rewrite(match: re.Match[str]) -> str:
        path, anchor = _target(page.file.src_uri, match["target"])
        if path is None:
            return match[0]
        if (_ROOT / path).is_dir():
            return match["text"]
        site_path = _site_path(path)
        start = posixpath.dirname(page.file.src_uri) or "."
        return f"[{match['text']}]({posixpath.relpath(site_path, start)}{anchor})"

    return _LINK.sub(rewrite, markdown)


def _linked_files(file: File) -> set[str]:
    """Return the repository paths of the files outside the site's pages that the page links to."""
    targets = (_target(file.src_uri, match["target"])[0] for match in _LINK.finditer(file.content_string))
    return {path for path in targets if path and (_ROOT / path).is_file() and _site_path(path) == _copy_of(path)}


def _target(page: str, link: str) -> tuple[str | None, str]:
    """Return the repository path that a page's link leads to, and its anchor; None for an address or an anchor alone.

    Raises:
        PluginError: the repository has no such file.
    """
    link, hash_sign, anchor = link.partition("#")
    if not link or re.match(r"[a-z]+:", link):
        return None, ""
    source = next((source for source, name in _PAGES.items() if name == page), f"docs/{page}")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    if path.startswith("..") or not (_ROOT / path).exists():
        raise PluginError(f"{source}: links to {link}, which the repository does not have")
    return path, hash_sign + anchor


def _site_path(path: str) -> str:
    """Return where the site has a file of the repository."""
    if path in _PAGES:
        return _PAGES[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else _copy_of(path)


def _copy_of(path: str) -> str:
    # A copy is shown as text, not rendered as a page.
    return f"source/{path}.txt" if path.endswith((".md", ".py", ".yaml")) else f"source/{path}"
