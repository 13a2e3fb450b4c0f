"""A playbook's text under another id, to be changed: comments, order and blank lines stay as they are.

Pure. Called by `esctl playbook new --from`.
"""

from typing import Any


def renamed(text: str, name: str) -> str:
    """The text of a playbook with another id, and a title that says what it is a copy of."""
    import tomlkit  # loaded late: most commands change no file

    document: Any = tomlkit.parse(text)
    title = f"Copy of {document['id']}: {document['title']}"
    document["id"], document["title"] = name, title
    return tomlkit.dumps(document)
