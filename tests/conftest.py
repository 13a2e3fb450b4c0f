"""How tests run: `async def` tests under trio, property tests the same way every time.

A test that takes the fixture `autojump_clock` runs on a clock that jumps to the next deadline as
soon as every task waits, so its timeouts cost nothing.
"""

import functools
import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import hypothesis
import pytest
import trio
import trio.testing

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=100)
hypothesis.settings.register_profile("wide", deadline=None, max_examples=5_000)
hypothesis.settings.load_profile("repeatable")


HERE: Final = Path(__file__).parent
COVERING: Final = {"raft", "dedup", "test_apply.py"}
"""The tests that cover what must be covered to the last branch."""


@pytest.fixture
def autojump_clock() -> trio.testing.MockClock:
    """A clock that jumps over every wait; the test's trio run uses it."""
    return trio.testing.MockClock(autojump_threshold=0)


def _in_trio(test: Callable[..., Awaitable[None]], fixtures: dict[str, Any]) -> Callable[..., None]:
    """A plain function that runs the async `test` in a trio run of its own."""

    @functools.wraps(test)
    def run(*args: Any, **arguments: Any) -> None:
        clocks = [value for value in fixtures.values() if isinstance(value, trio.abc.Clock)]
        trio.run(functools.partial(test, *args, **arguments), clock=clocks[0] if clocks else None)

    return run


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """In a worker of xdist, stop the first of two measurements that pytest-cov 7.1 starts.

    `no_cover` pauses the second one only, so without this every test of a worker is traced. It must run
    before the plugin puts the second in the place of the first.
    """
    first = getattr(session.config.pluginmanager.getplugin("_cov"), "cov_controller", None)
    if first is not None and hasattr(session.config, "workerinput"):
        first.cov.stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Measure coverage where its own tests are: a traced test takes two or three times as long."""
    for item in items:
        if not item.path.is_relative_to(HERE) or item.path.relative_to(HERE).parts[0] not in COVERING:
            item.add_marker(pytest.mark.no_cover)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Call binary values by their argument's name.

    Their bytes may hold the time (gzip's header does), and then two workers collect other tests.
    """
    return argname if isinstance(val, bytes) and not val.isascii() else None


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Wrap async tests; pytest then calls them as it calls any other."""
    if hasattr(pyfuncitem.obj, "hypothesis"):
        inner = pyfuncitem.obj.hypothesis.inner_test
        if inspect.iscoroutinefunction(inner):
            pyfuncitem.obj.hypothesis.inner_test = _in_trio(inner, pyfuncitem.funcargs)
    elif inspect.iscoroutinefunction(pyfuncitem.obj):
        pyfuncitem.obj = _in_trio(pyfuncitem.obj, pyfuncitem.funcargs)
