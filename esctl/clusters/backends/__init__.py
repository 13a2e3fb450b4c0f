"""Where the nodes of a cluster run, and which backend a cluster's description names."""

from esctl.clusters.backends.interface import Backend
from esctl.errors import StateUnreadable


def backend_named(name: str) -> Backend:
    """The backend that runs the nodes; raises `StateUnreadable` for a name of a later version."""
    match name:  # loaded late: they bring trio
        case "process":
            from esctl.clusters.backends.process import ProcessBackend

            return ProcessBackend()
        case "netns":
            from esctl.clusters.backends.netns import NetnsBackend

            return NetnsBackend()
        case _:
            raise StateUnreadable(f"the backend {name!r} is not known here", next_step="upgrade esctl")
