"""The wheel in empty environments outside the checkout: with the lowest versions that it admits, and newest.

Builds the wheel, installs it, and uses it as somebody does who has never seen the checkout. Tells what is
installed, and what an application needs that only embeds the client. Run by `make package`, which installs
uv. Exits with code 1 at the first thing that is not as it should be.
"""

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
FLIGHTS_COUNT: Final = 27_004
TESTS: Final = ("tests/wire/test_wire.py", "tests/test_events.py", "tests/esctl/commands/test_commands.py",
                "tests/esctl/ui/test_terminal.py", "tests/esctl/cli/test_settings.py")  # fmt: skip
"""Those that meet most of the packages; run with the lowest versions."""
TEST_PACKAGES: Final = ("pytest", "pytest-timeout", "hypothesis", "jsonschema")
CLIENT_PACKAGES: Final = ("cbor2", "google-crc32c", "tomli", "trio")
"""All that `esnode.client` imports."""
CLIENT: Final = """
import sys
import trio
from esnode.client import connect

async def main():
    async with connect(sys.argv[1:]) as log:
        ack = await log.append({"id": "embedded-1", "source": "/packaging", "type": "t"})
        assert not ack.duplicate
    assert not {"numpy", "rich", "typer", "sqlite_utils", "hdrh"} & set(sys.modules)

trio.run(main)
"""


class Environment:
    """A virtual environment of its own, in a directory that is not the checkout."""

    def __init__(self, path: Path) -> None:
        self.path = path
        run("uv", "venv", "--quiet", "--python", sys.executable, str(path / "env"))
        self.python = path / "env" / "bin" / "python"

    def install(self, *words: str) -> None:
        """What pip would install of these words."""
        run("uv", "pip", "install", "--quiet", "--python", str(self.python), *words)

    def esctl(self, *words: str) -> Any:
        """The JSON answer's data of a command that must succeed."""
        said = self.run(str(self.python.parent / "esctl"), *words, "-o", "json")
        return json.loads(said)["data"]

    def run(self, *words: str) -> str:
        """A program in this environment, with a home of its own."""
        ours = ("ESCTL_", "PYTHON")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        here = {name: str(self.path / "home") for name in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME")}
        return run(*words, cwd=self.path, env=kept | here)

    @property
    def size_mb(self) -> float:
        """Of everything that is installed, in megabytes."""
        files = (file for file in (self.path / "env").rglob("*") if file.is_file() and not file.is_symlink())
        return sum(file.stat().st_size for file in files) / 1e6


def run(*words: str, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    """What a program prints; it must succeed."""
    if words[0] == "uv":
        words = (str(Path(sys.executable).parent / "uv"), *words[1:])
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    if done.returncode:
        sys.exit(f"{' '.join(words)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def use(environment: Environment, wheel: Path) -> None:
    """The tour, an export, the documents, and an application beside them."""
    told = environment.esctl("demo")
    assert told["events"] == FLIGHTS_COUNT, told
    names = {one["name"] for one in environment.esctl("docs")["documents"]}
    assert {"operations", "guarantees"} <= names, names
    assert environment.esctl("playbook", "ls")["playbooks"]
    environment.esctl("cluster", "up", "packaged")
    try:
        flights = environment.esctl("docs", "operations")["file"].replace(
            "docs/operations.md", "examples/flights-2013-01.ndjson.gz"
        )
        assert environment.esctl("produce", flights)["acked"] == FLIGHTS_COUNT
        assert environment.esctl("export", "--save", "events.db")["events"] == FLIGHTS_COUNT
        with sqlite3.connect(environment.path / "events.db") as database:
            assert database.execute("SELECT count(*) FROM events").fetchone() == (FLIGHTS_COUNT,)
        embed(environment, wheel)
    finally:
        environment.esctl("cluster", "destroy", "packaged", "--confirm", "packaged")


def embed(environment: Environment, wheel: Path) -> None:
    """An application with the client and with what that imports, and nothing else."""
    nodes = environment.esctl("status", "-c", "packaged")["nodes"]
    with tempfile.TemporaryDirectory() as directory:
        application = Environment(Path(directory))
        application.install("--no-deps", str(wheel))
        application.install(*CLIENT_PACKAGES)
        application.run(str(application.python), "-c", CLIENT, *(node["address"] for node in nodes))
        print(f"client alone: {application.size_mb:.0f} MB with {', '.join(CLIENT_PACKAGES)}")


def lowest_versions(directory: Path) -> Path:
    """A list of the lowest versions that pyproject.toml admits of its own requirements."""
    listed = directory / "lowest.txt"
    run("uv", "pip", "compile", "--quiet", "--resolution", "lowest-direct", "--output-file", str(listed),
        "--python-version", ".".join(map(str, sys.version_info[:2])), "pyproject.toml")  # fmt: skip
    return listed


def check(wheel: Path, lowest: Path | None) -> None:
    """Use the wheel with the lowest versions of this list, or with the newest."""
    with tempfile.TemporaryDirectory() as directory:
        environment = Environment(Path(directory))
        if lowest is not None:
            environment.install("--requirements", str(lowest), *TEST_PACKAGES)
        environment.install(str(wheel))
        print(f"{'newest' if lowest is None else 'lowest'} versions: {environment.size_mb:.0f} MB")
        use(environment, wheel)
        if lowest is not None:
            words = (str(environment.python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS)
            print(run(*words).splitlines()[-1])


def main() -> None:
    """Build the wheel, and use it with both."""
    with tempfile.TemporaryDirectory() as directory:
        built = Path(directory)
        run("uv", "build", "--quiet", "--wheel", "--out-dir", str(built), ".")
        (wheel,) = built.glob("*.whl")
        for lowest in (lowest_versions(built), None):
            check(wheel, lowest)


if __name__ == "__main__":
    main()
