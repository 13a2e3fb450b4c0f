"""What is installed, and what the system lets a process have. Called by `examination.py`."""

import platform
import resource
import sqlite3
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Final

from esctl.clusters.backends import network
from esctl.observe.host.checkresult import CheckResult
from esnode import limits

FEWEST_DESCRIPTORS: Final = limits.MAX_CLIENT_CONNECTIONS + limits.MAX_CLIENT_HANDSHAKES + 256
OLDEST_SQLITE: Final = (3, 35, 0)
OLDEST_PYTHON: Final = (3, 11)


def findings() -> Iterator[CheckResult]:
    """Python, SQLite, RocksDB, file descriptors."""
    yield python(sys.version_info[:2], platform.python_version())
    yield sqlite(sqlite3.sqlite_version_info, sqlite3.sqlite_version)
    there = find_spec("rocksdict") is not None
    yield CheckResult(
        "rocksdb",
        "ok",
        "rocksdict is installed" if there else "not installed; needed only for --storage rocksdb",
    )
    yield namespaces(network.missing())
    yield descriptors(*resource.getrlimit(resource.RLIMIT_NOFILE))


def python(version: tuple[int, ...], text: str) -> CheckResult:
    """New enough?"""
    if version >= OLDEST_PYTHON:
        return CheckResult("python", "ok", text)
    return CheckResult("python", "bad", text, "install 3.11 or newer")


def sqlite(version: tuple[int, ...], text: str) -> CheckResult:
    """New enough?"""
    if version >= OLDEST_SQLITE:
        return CheckResult("sqlite", "ok", text)
    wanted = ".".join(map(str, OLDEST_SQLITE))
    return CheckResult("sqlite", "bad", text, f"use a Python that is linked with SQLite {wanted} or newer")


def namespaces(lack: str) -> CheckResult:
    """Could a cluster have links of its own? `lack` is what is missing for that, empty when nothing is."""
    found = f"{lack}; needed only for --backend netns" if lack else "can be made, for --backend netns"
    return CheckResult("network namespaces", "ok", found)


def descriptors(soft: int, hard: int) -> CheckResult:
    """May a node hold all the connections that it allows?"""
    if soft == resource.RLIM_INFINITY:
        return CheckResult("file descriptors", "ok", "no limit")
    if soft >= FEWEST_DESCRIPTORS:
        return CheckResult("file descriptors", "ok", f"{soft:,} a process")
    wanted = 4 * FEWEST_DESCRIPTORS
    reachable = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    return CheckResult("file descriptors", "warning", f"{soft:,} a process", f"ulimit -n {reachable}")
