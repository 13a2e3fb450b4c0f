"""The one head that all pages have: they load nothing, run nothing, and fit the screen of whoever reads them.

Knows nothing of what a page says. Called by the pages of measurements, playbooks and timelines.
"""

from esctl.ui.html import style
from esctl.ui.html.markup import Content, document, element


def page(title: str, *content: Content, css: str = "") -> str:
    """A whole page; `css` is put behind the style that all have, and holds no text from outside."""
    made = element("style")
    made.text = style.CSS + css  # as it is
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=style.POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        made,
    )
    return document(element("html", head, element("body", *content), lang="en"))
