"""Removes secrets from everything that leaves the machine, and event contents that may be in a log.

Recognises names and the form of values; opens no file. Removed text is marked, and counted by kind.
Pure. Called by `archive.py`.
"""

import json
import re
from collections import Counter
from typing import Any, Final

MARK: Final = "<left out>"
SECRET_NAMES: Final = re.compile(
    r"(?i)passw(?:or)?d|secret|token|credential|private_?key|api_?key|authorization"
)
CONTENT_NAMES: Final = frozenset({"data", "payload", "event_data", "keys", "key", "subject"})
"""Fields that would hold what events hold, or what tells one event from another."""
MAX_TEXT: Final = 2_000
_IN_TEXT: Final = (
    re.compile(
        r"(?i)\b((?:passw(?:or)?d|secret|token|credential|api_?key)s?[\"']?\s*[=:]\s*)[\"']?[^\s\"',;]+[\"']?"
    ),
    re.compile(r"(?i)\b(authorization\s*[=:]\s*(?:bearer|basic)\s+)\S+"),
    re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)"),
)
_PEM: Final = re.compile(r"-----BEGIN [A-Z ]+-----.*?(?:-----END [A-Z ]+-----|\Z)", re.DOTALL)


class Redaction:
    """One archive's worth; `taken` counts what was taken out."""

    def __init__(self) -> None:
        self.taken: Counter[str] = Counter()

    def value(self, value: Any, name: str = "") -> Any:
        """The value without what nobody else should see; `name` is that of its field."""
        if name and SECRET_NAMES.search(name):
            return self._out("secrets")
        if name in CONTENT_NAMES:
            return self._out("event contents")
        if isinstance(value, dict):
            return {key: self.value(one, str(key)) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(one) for one in value]
        return self.text(value) if isinstance(value, str) else value

    def text(self, text: str) -> str:
        """The text without what looks like a secret, and cut where it is long."""
        for look in _IN_TEXT:
            text, count = look.subn(rf"\g<1>{MARK}", text)
            self.taken["secrets"] += count
        text, count = _PEM.subn(MARK, text)
        self.taken["secrets"] += count
        if len(text) > MAX_TEXT:
            self.taken["long texts cut"] += 1
            text = f"{text[:MAX_TEXT]}... ({len(text):,} characters)"
        return text

    def line(self, line: str) -> str:
        """A line of a log: JSON field by field, anything else as text."""
        try:
            fields = json.loads(line)
        except ValueError:
            return self.text(line)
        if not isinstance(fields, dict):
            return self.text(line)
        return json.dumps(self.value(fields), separators=(",", ":"))

    def _out(self, kind: str) -> str:
        self.taken[kind] += 1
        return MARK
