"""Names made durable: after a file was created, renamed or removed, its directory is synced.

The one place of the node and its toolkit that does it. Called by whoever keeps files.
"""

import os
from pathlib import Path


def sync_directory(path: Path) -> None:
    """Make the names in `path` durable; raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
