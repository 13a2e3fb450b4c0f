"""What `mkdocs build` does here beyond its own: which files are pages, and that none needs the network.

A page is named by its path in the repository, so one link serves the site and a checkout. Its address is its
section and its name: how-to/operations.html. Called by mkdocs (mkdocs.yml), which only `make site` installs.
"""

import re
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = ("*.md", "docs/*.md", "docs/site/*.md", "examples/*.md")
COPIED: Final = ("docs/pictures/*.svg", "docs/site/*.css", "examples/*.py", "LICENSE")
"""What pages show or link to and is no page."""
_HOST: Final = r"((?:https?:)?//[^\"'\s)>]+)"
_FETCHES: Final = (
    re.compile(r"<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc=[\"']?" + _HOST),
    re.compile(r"<link\b(?![^>]*\brel=[\"']?canonical)[^>]*\bhref=[\"']?" + _HOST),
    re.compile(r"url\([\"']?" + _HOST),
    re.compile(r"@import\s+[\"']" + _HOST),
)


def on_files(files: Any, config: Any) -> Any:
    """The theme's files, and ours under their paths in the repository."""
    from mkdocs.structure.files import File, Files

    sections = sections_of(config["nav"])
    kept = [file for file in files if file.src_dir != config["docs_dir"]]
    paths = [path.relative_to(ROOT) for pattern in (*PAGES, *COPIED) for path in sorted(ROOT.glob(pattern))]
    ours = [
        File(
            str(path), str(ROOT), config["site_dir"], use_directory_urls=False,
            dest_uri=address_of(path, sections),
        )
        for path in paths
    ]  # fmt: skip
    return Files([*kept, *ours])


def on_post_build(config: Any) -> None:
    """Refuse a site for which a browser would ask another host."""
    from mkdocs.exceptions import PluginError

    site = Path(config["site_dir"])
    files = [*site.rglob("*.html"), *site.rglob("*.css"), *site.rglob("*.svg")]
    found = [
        f"{file.relative_to(site)}: {url}"
        for file in files
        for url in fetched_by(file.read_text(encoding="utf-8"))
    ]
    if found:
        raise PluginError("the site fetches from other hosts: " + "; ".join(found))


def fetched_by(text: str) -> list[str]:
    """Each address on another host that a browser asks for when it shows this page or style sheet."""
    return [url for pattern in _FETCHES for url in pattern.findall(text)]


def sections_of(nav: list[dict[str, Any]]) -> dict[str, str]:
    """The section of each page, as an address has it."""
    return {
        path: section.lower()
        for entry in nav
        for section, pages in entry.items()
        if isinstance(pages, list)
        for page in pages
        for path in page.values()
    }


def address_of(path: Path, sections: dict[str, str]) -> str:
    """Where the site has this file of the repository."""
    if str(path) == "README.md":
        return "index.html"
    if path.suffix != ".md":
        return str(path)
    name = path.parent.name if path.stem == "README" else path.stem.lower()
    return f"{sections.get(str(path), 'other')}/{name}.html"
