"""The same doors under atheris (libFuzzer): slower a case, but it steers by the branches that it reaches.

Needs the extra `fuzz`. What it finds beside a finding is worth keeping: inputs that reach new code, made
fewer with `-merge=1`. Called by `__main__` for `--engine atheris`.
"""

import importlib
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .engine import attempt
from .target import Target

INSTRUMENTED = (
    "esnode.wire",
    "esnode.raft",
    "esnode.dedup",
    "esnode.storage",
    "esnode.apply",
    "esnode.events",
)


def run_atheris(target: Target, cases: int, seed: int) -> int:
    """Run `cases` cases; 0 when nothing was found, else 1. Ends with code 2 when atheris is missing."""
    try:
        atheris: Any = importlib.import_module("atheris")
    except ModuleNotFoundError:
        print('atheris is not installed: pip install -e ".[fuzz]"', file=sys.stderr)
        return 2
    atheris.enabled_hooks.add("str")
    for name, module in sorted(sys.modules.items()):
        if name.startswith(INSTRUMENTED):
            _instrument(atheris, module)

    def once(data: bytes) -> None:
        _, found = attempt(target, data)
        if found is not None:
            from .__main__ import tell_found

            tell_found(found)
            raise SystemExit(1)

    kept = TemporaryDirectory(prefix=f"atheris-{target.name}-")
    for number, good in enumerate(target.pool()):
        (Path(kept.name) / f"{number:04}").write_bytes(good)
    flags = (f"-runs={cases}", f"-seed={seed + 1}", "-max_len=4096", f"-artifact_prefix={kept.name}/")
    atheris.Setup(["fuzz", *flags, kept.name], once)
    atheris.Fuzz()
    return 0


def _instrument(atheris: Any, module: Any) -> None:
    """Count the branches of every function that the module defines."""
    for name, value in list(vars(module).items()):
        if getattr(value, "__module__", None) != module.__name__:
            continue
        if callable(value) and hasattr(value, "__code__"):
            setattr(module, name, atheris.instrument_func(value))
        elif isinstance(value, type):
            for method, function in list(vars(value).items()):
                if callable(function) and hasattr(function, "__code__"):
                    setattr(value, method, atheris.instrument_func(function))
