"""The keys of `esctl top`: what each does, for the last line of the screen and for its help.

Pure. Called by `board.py` and `pages.py`.
"""

from typing import Final

from esctl.observe.top.state import Page

KEYS: Final = (
    ("up down", "select a node, or scroll; a number selects the node of that number"),
    ("enter", "show the selected node in detail"),
    ("l", "follow its log"),
    ("w", "say what is wrong with the cluster, and what to type next"),
    ("e", "show the events that arrive, as the selected node has them"),
    ("p", "pause the selected node, let it go on, or start it"),
    ("t", "hand the leadership to the selected node"),
    ("f", "break something at the selected node, for 10 s: a list to choose from"),
    ("h", "heal: end every fault of the cluster"),
    ("esc", "go back to the first page"),
    ("q", "quit"),
)
"""What changes something shows its command first and asks."""
TOLD: Final = (
    ("events/s", "events that the leader has applied, by its own clock"),
    ("p50 p99", "how long the leader took to ack a batch since the last look: from taking it in until a"
     " majority has it on disk. The way to the client is not in it. At most an eighth too high"),
    ("confirmed read", "how long a linearizable read of nothing took from here"),
    ("lag", "events that the leader has applied and the node has not"),
    ("red", "no majority is left, or one more node that fails takes it away"),
    ("a dotted line", "another node leads from there on"),
)  # fmt: skip
_SHORT: Final = {
    "enter": "node", "l": "log", "w": "why", "e": "events", "p": "pause", "t": "transfer", "f": "fault",
    "h": "heal", "?": "help", "q": "quit",
}  # fmt: skip


def hints(page: Page, *, broken: bool) -> list[tuple[str, str]]:
    """Keys with a word each, as they fit in a line of 80 columns; `broken`: there is something to heal."""
    if page is Page.BOARD:
        return [(key, word) for key, word in _SHORT.items() if key != ("t" if broken else "h")]
    others = {key: word for key, word in _SHORT.items() if key in ("enter", "l", "w", "e", "?", "q")}
    return [("esc", "back"), ("up down", "node" if page is Page.NODE else "scroll"), *others.items()]
