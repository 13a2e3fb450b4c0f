"""What `esctl top` has to show, and what the operator is doing with it. Called by the pages and the keys."""

import enum
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from esctl.clusters.nodelog import LogLine
from esctl.observe.top.rates import Rates
from esctl.query.ringsurvey import RingSurvey
from esctl.query.survey import Report, Survey
from esctl.ui.answer import View
from esnode.client import StoredEvent

LINES_KEPT: Final = 1000
"""Of a node's log."""


class Page(enum.Enum):
    """Which page is on the screen; the value is the word for it."""

    BOARD = "the cluster"
    NODE = "a node"
    LOG = "its log"
    WHY = "what is wrong"
    EVENTS = "live events"
    HELP = "help"


@dataclass(slots=True)
class BoardState:
    """What there is to show: the last look, what came before it, and what the operator is doing."""

    survey: Survey
    rates: Rates
    selected: int
    faults: Sequence[str] = ()
    """What is broken on purpose, a line each."""
    question: str = ""
    """What is about to be done, or is to be chosen; empty unless an answer is waited for."""
    choice: str = ""
    """What answers the question."""
    message: str = ""
    """What the last key came to."""
    trouble: bool = False
    """Is the message a bad one?"""
    unicode: bool = True
    """Can the terminal show the bars of a sparkline?"""
    page: Page = Page.BOARD
    scroll: int = 0
    """So many lines away from where the page begins: the end of a log, the top of others."""
    log: deque[LogLine] = field(default_factory=lambda: deque(maxlen=LINES_KEPT))
    """Of the selected node, the newest last."""
    why: Sequence[View] | None = None
    """What the last diagnosis said; None before the first."""
    events: Sequence[StoredEvent] = ()
    """The newest ones that the selected node has applied."""
    events_of: str = ""
    """Why there are none, or which of those that went by they are."""

    ring: RingSurvey | None = None
    """The last look at all partitions, where there are several; `survey` is the one of them that is shown."""
    others: dict[int | None, Rates] = field(default_factory=dict)
    """The rates of the partitions that are not shown."""

    @property
    def several(self) -> bool:
        """Has the cluster several partitions?"""
        return self.survey.partition is not None

    def rates_of(self, partition: int | None) -> Rates:
        """Those of one partition."""
        return (
            self.rates if partition == self.survey.partition else self.others.setdefault(partition, Rates())
        )

    @property
    def report(self) -> Report:
        """That of the selected node."""
        return self.survey.report(self.selected)
