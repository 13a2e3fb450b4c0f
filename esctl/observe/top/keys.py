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
NEXT_PARTITION: Final = ("tab", "show the next partition")
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


def keys(*, several: bool) -> tuple[tuple[str, str], ...]:
    """All of them; `several`: partitions, with a key to the next one."""
    return (NEXT_PARTITION, *KEYS) if several else KEYS


def hints(page: Page, *, broken: bool, several: bool = False) -> list[tuple[str, str]]:
    """Keys with a word each, as they fit in a line of 80 columns; `broken`: there is something to heal."""
    if page is Page.BOARD:
        short = {"tab": "next", **_SHORT} if several else _SHORT
        left_out = {"t" if broken else "h", *(["l", "e"] if several else [])}
        return [(key, word) for key, word in short.items() if key not in left_out]
    others = {key: word for key, word in _SHORT.items() if key in ("enter", "l", "w", "e", "?", "q")}
    return [("esc", "back"), ("up down", "node" if page is Page.NODE else "scroll"), *others.items()]
