"""The node's log: one JSON object a line on standard error, each with node, term and index.

Decides the shape of a line: `time` (RFC 3339, UTC, microseconds, as the node sees it), `level`, `node`,
`term`, `index` (the applied one), `event` (a word with underscores), and the event's own fields; where a node
has several partitions, also `partition`. No payload,
key or secret is ever given to it. Set up once by `__main__`; everybody else uses `logging`.
"""

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from esnode.config import Config
from esnode.wallclock import WallClock

Place = Callable[[], tuple[int, int]]
"""The current term and applied index."""

_PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """A log record as one JSON object."""

    def __init__(self, node_id: int, clock: WallClock, partition: int | None = None) -> None:
        super().__init__()
        self.place: Place = lambda: (0, 0)
        self._node = {"node": node_id} if partition is None else {"node": node_id, "partition": partition}
        self._clock = clock

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        term, index = self.place()
        time = datetime.fromtimestamp(self._clock.seen(record.created), UTC)
        line = {
            "time": time.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            **self._node,
            "term": term,
            "index": index,
            "event": record.getMessage(),
        }
        line |= {key: value for key, value in record.__dict__.items() if key not in _PLAIN}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def open_node_log(config: Config, clock: WallClock, partition: int | None = None) -> JsonLines:
    """Send every log line of this process to standard error; returns the formatter, to set `place`.

    With a `partition` each line has it: the process of one of several.
    """
    formatter = JsonLines(config.node_id, clock, partition)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config.log_level.upper())
    return formatter
