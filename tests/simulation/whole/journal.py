"""The nodes' own logs, with simulated time, instead of standard error.

Decides only where the lines go. Set up by `world.py` around one run.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}

Tell = Callable[[str, dict[str, object]], None]
"""Is told the event and its fields, in the task of the node that logs it."""


class _Handler(logging.Handler):
    def __init__(self, tell: Tell) -> None:
        super().__init__(logging.INFO)
        self._tell = tell

    def handle(self, record: logging.LogRecord) -> bool:
        fields = {name: value for name, value in record.__dict__.items() if name not in _PLAIN}
        self._tell(record.getMessage(), fields)
        return True


@contextmanager
def told(tell: Tell) -> Iterator[None]:
    """All that `esnode` logs goes to `tell`, and nowhere else."""
    logger = logging.getLogger("esnode")
    before = (logger.level, logger.propagate, logger.handlers[:], logger.disabled)
    logger.handlers[:], logger.propagate, logger.disabled = [_Handler(tell)], False, False
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        level, logger.propagate, logger.handlers[:], logger.disabled = before
        logger.setLevel(level)
