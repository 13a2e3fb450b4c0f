"""Where the nodes of a cluster run, and which backend a cluster's description names."""

from esctl.backends.interface import Backend
from esctl.errors import StateUnreadable


def backend_named(name: str) -> Backend:
    """The backend that runs the nodes; raises `StateUnreadable` for a name of a later version."""
    if name != "process":
        raise StateUnreadable(f"the backend {name!r} is not known here", next_step="upgrade esctl")
    from esctl.backends.process import ProcessBackend  # loaded late: it brings trio

    return ProcessBackend()
