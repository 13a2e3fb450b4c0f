"""Three network namespaces on one bridge, each a node's own, and ways to part them. Needs root.

Decides names (new for each run) and addresses, and takes everything away again whatever happens. A fault
lies in the links and routes, so that no node can know of it. Called by the arena and by `partitions`.
"""

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

SUBNETS: Final = "198.18"
"""RFC 2544 keeps 198.18.0.0/15 for measurements: no other network uses it."""
HOST: Final = 254
NAMESPACES: Final = Path("/var/run/netns")
REACH_TIMEOUT_S: Final = 1.0
_CALL: Final = (
    "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3]))"
)


def missing() -> str:
    """What this machine lacks for it; empty when nothing."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not (shutil.which("ip") and shutil.which("nsenter")):
        return "ip (iproute2) or nsenter (util-linux) is missing"
    name = f"tor{secrets.token_hex(3)}"
    made = subprocess.run(["ip", "link", "add", name, "type", "bridge"], capture_output=True)
    if made.returncode != 0:
        return "this kernel gives no bridge"
    ip("link", "del", name)
    return ""


def ip(*words: str) -> None:
    """Run `ip`; raises `CalledProcessError`."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


@dataclass(frozen=True, slots=True)
class Network:
    """The namespaces of the nodes, by number. The host itself is on the bridge too."""

    name: str
    subnet: str
    numbers: tuple[int, ...]

    def at(self, number: int, port: int) -> str:
        """The node's address with a port."""
        return f"{self.address(number)}:{port}"

    def address(self, number: int) -> str:
        return f"{self.subnet}.{number}"

    def namespace(self, number: int) -> str:
        return f"{self.name}n{number}"

    def command(self, number: int) -> list[str]:
        """What stands before the command line of a process that is to live there; the pid stays.

        Not `ip netns exec`: that gives the process mounts of its own, and so keeps every disk mounted.
        """
        return [shutil.which("nsenter") or "nsenter", f"--net={NAMESPACES / self.namespace(number)}", "--"]

    # --- faults ------------------------------------------------------------------------------------

    def cut(self, number: int) -> None:
        """Nothing reaches the node, and nothing leaves it."""
        ip("link", "set", self.link(number), "down")

    def mend(self, number: int) -> None:
        ip("link", "set", self.link(number), "up")

    def silence(self, source: int, destination: int) -> None:
        """What `source` sends to `destination` is dropped; the other way goes on."""
        ip("-n", self.namespace(source), "route", "add", "blackhole", f"{self.address(destination)}/32")

    def unsilence(self, source: int, destination: int) -> None:
        ip("-n", self.namespace(source), "route", "del", "blackhole", f"{self.address(destination)}/32")

    async def reaches(self, source: int | None, address: str) -> bool:
        """Does a new connection from a node, or from the host, get there?"""
        host, _, port = address.rpartition(":")
        before = self.command(source) if source is not None else []
        words = [*before, sys.executable, "-S", "-c", _CALL, host, port, str(REACH_TIMEOUT_S)]
        return (await trio.run_process(words, check=False, capture_stderr=True)).returncode == 0

    # --- there and gone ----------------------------------------------------------------------------

    @property
    def bridge(self) -> str:
        return f"{self.name}b"

    def link(self, number: int) -> str:
        """The end of the node's cable that is on the bridge."""
        return f"{self.name}v{number}"

    def _bring_up(self, number: int) -> None:
        space, outer = self.namespace(number), self.link(number)
        ip("link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", space)
        ip("link", "set", outer, "master", self.bridge)
        ip("link", "set", outer, "up")
        ip("-n", space, "address", "add", f"{self.address(number)}/24", "dev", "eth0")
        ip("-n", space, "link", "set", "lo", "up")
        ip("-n", space, "link", "set", "eth0", "up")


@contextmanager
def network(numbers: Iterable[int]) -> Iterator[Network]:
    """A network that exists only here."""
    place = Network(f"tor{secrets.token_hex(3)}", f"{SUBNETS}.{_free_subnet()}", tuple(numbers))
    with ExitStack() as stack:
        ip("link", "add", place.bridge, "type", "bridge")
        stack.callback(ip, "link", "del", place.bridge)
        ip("address", "add", f"{place.subnet}.{HOST}/24", "dev", place.bridge)
        ip("link", "set", place.bridge, "up")
        for number in place.numbers:
            ip("netns", "add", place.namespace(number))
            # Its end of the cable goes with it, and so does the other end, as soon as no process is left.
            stack.callback(ip, "netns", "del", place.namespace(number))
            place._bring_up(number)
            stack.callback(_delete_link, place.link(number))
        yield place


def _delete_link(name: str) -> None:
    with contextlib.suppress(subprocess.CalledProcessError):  # it may have gone with its namespace
        ip("link", "del", name)


def _free_subnet() -> int:
    """A third byte of the address that no interface of this machine has."""
    listing = subprocess.run(["ip", "-4", "-o", "address"], capture_output=True, text=True, check=True).stdout
    return next(n for n in range(256) if f" {SUBNETS}.{n}." not in listing)
