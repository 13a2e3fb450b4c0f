"""How long the client waits, and for what: printed with every measurement that uses the client.

Decides nothing: the values are those of the modules that use them. Called by `esctl bench`.
"""

from dataclasses import dataclass

from esnode import limits
from esnode.client import link, runs


@dataclass(frozen=True, slots=True)
class Timers:
    """In seconds. Pauses between two tries are drawn from half to one and a half of these."""

    dial_again_s: float = limits.RECONNECT_MIN_S
    """After the first failure; doubled by each further one."""
    dial_again_at_most_s: float = limits.RECONNECT_MAX_S
    ask_when_due_s: float = link.ASK_WHEN_DUE_S
    """A node that owes an answer and is silent is asked whether it is there after this."""
    ask_when_idle_s: float = link.ASK_WHEN_IDLE_S
    hang_up_s: float = link.HANG_UP_S
    """After that question."""
    send_again_s: float = runs.RETRY_S
    """After "busy" and "not the leader"; doubled by each further one."""
    send_again_refused_by_all_s: float = runs.ROUND_S
    """The longest of these pauses, and the one after all nodes have refused a read."""
    timeout_s: float | None = limits.CLIENT_TIMEOUT_S
    """When an operation is given up; `connect` decides it."""
