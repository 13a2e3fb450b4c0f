"""A run as a story: who did what when, in lines of text or as a Mermaid sequence diagram.

Only looks at the trace. Used by the command line when one seed is played.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final, get_args

from esnode.raft.messages import AppendEntries, PeerMessage
from tests.raft import telling

from .schedule import SECOND

MAX_NOTE: Final = 90


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that happened."""

    at_ns: int
    who: str
    what: str
    message: PeerMessage | None

    def __str__(self) -> str:
        what = self.what if self.message is None else f"< {self.sender} {_tell(self.message)}"
        return f"{self.at_ns / SECOND:12.6f}  {self.who:>2}  {what}"

    @property
    def sender(self) -> str:
        """Who sent the message that arrives in this line."""
        return self.what.split()[1]


class Story:
    """Listens to a trace; keeps the last lines."""

    def __init__(self, keep: int | None = None) -> None:
        self.lines: deque[Line] = deque(maxlen=keep)

    def hear(self, at_ns: int, who: str, what: str, detail: object) -> None:
        """A `trace.Listener`."""
        message = detail if isinstance(detail, get_args(PeerMessage)) else None
        self.lines.append(Line(at_ns, who, what, message))

    def text(self) -> str:
        """One line for each thing."""
        return "\n".join(map(str, self.lines))

    def diagram(self) -> str:
        """A Mermaid sequence diagram: arrows are messages that arrived, notes are changes and faults."""
        nodes = sorted({line.who for line in self.lines if line.who.isdigit()})
        drawn = ["sequenceDiagram", *(f"    participant {node}" for node in nodes)]
        before: dict[str, str] = {}
        for line in self.lines:
            if line.message is not None:
                drawn.append(f"    {line.sender}->>{line.who}: {_safe(_tell(line.message))}")
            elif line.who == "!":
                drawn.append(f"    Note over {nodes[0]},{nodes[-1]}: {_safe(line.what)}")
            elif before.get(line.who) != line.what:
                before[line.who] = line.what
                drawn.append(f"    Note over {line.who}: {_safe(line.what)}")
        return "\n".join(drawn)


def _tell(message: PeerMessage) -> str:
    """In a few words; entries by their places, since their keys look like nothing."""
    if not isinstance(message, AppendEntries) or not message.entries:
        return telling.message(message)
    first, last = message.entries[0], message.entries[-1]
    body = f"entries {first.index}@{first.term} to {last.index}@{last.term}"
    place = f"{message.prev_index}@{message.prev_term}"
    return f"append in term {message.term}: {body} after {place}, commit {message.commit}"


def _safe(text: str) -> str:
    """Mermaid ends a statement at a semicolon or a hash."""
    return text.replace(";", ",").replace("#", "no. ")[:MAX_NOTE]
