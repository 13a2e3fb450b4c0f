"""The network of one cluster: a bridge of the host, and a namespace with an address for each node.

Decides names and addresses, makes what is missing, cuts links one way, and takes everything away again.
Nothing of it is on disk: after a reboot it is made anew. A frame that a cut loses leaves the sender for an
address that nobody has, so neither end is told anything, as on a real wire. Knows no process and no lease.
Called by the backend `netns`, the doctor and the torture tests.
"""

import ctypes
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from esctl.clusters.state import Cluster
from esctl.errors import NetnsUnavailable, NetworkRefused

SUBNETS: Final = tuple(f"198.{second}.{third}" for second in (18, 19) for third in range(256))
"""RFC 2544 keeps 198.18.0.0/15 for measurements: no other network uses it."""
HOST: Final = 254
NAMESPACES: Final = Path("/var/run/netns")
LINKS: Final = Path("/sys/class/net")
NOWHERE: Final = "02:00:00:00:00:00"
"""A hardware address, locally administered, that no interface has."""
PROBE_S: Final = 0.25
PROBES: Final = 3
LONGEST_ALIAS_BYTES: Final = 255
_NAME: Final = re.compile(r"(es[0-9a-f]{8})(?:b|v\d+|n\d+)")
_CLONE_NEWNET: Final = 0x40000000
_LIBC: Final = ctypes.CDLL(None, use_errno=True)

Cut = tuple[int, int]
"""What the first node sends does not reach the second."""


def missing() -> str:
    """What this machine lacks for it; empty when nothing."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    absent = [tool for tool in ("ip", "nsenter") if shutil.which(tool) is None]
    if absent:
        return f"not found: {', '.join(absent)} (packages iproute2, util-linux)"
    name = f"escan{secrets.token_hex(3)}"  # unlike that of a network
    made = subprocess.run(  # noqa: S603  # no shell, and the words are ours
        ["ip", "link", "add", name, "type", "bridge"],  # noqa: S607  # found by PATH
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        return f"the kernel gives no bridge: {made.stderr.strip()}"
    ip("link", "del", name)
    return ""


def require() -> None:
    """Raises `NetnsUnavailable`."""
    lack = missing()
    if lack:
        raise NetnsUnavailable(f"no network namespaces: {lack}; nothing was done")


def ip(*words: str, batch: Iterable[str] = ()) -> str:
    """Run `ip`, and with `batch` one line after the other; what it says. Raises `NetworkRefused`."""
    lines = "".join(f"{line}\n" for line in batch)
    command = ["ip", *words, *(["-batch", "-"] if lines else [])]
    try:
        done = subprocess.run(  # noqa: S603  # no shell, and the words are ours
            command, input=lines, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise NetnsUnavailable(f"ip cannot be run: {error.strerror}") from error
    if done.returncode != 0:
        raise NetworkRefused(f"`{' '.join(command)}` has failed: {done.stderr.strip()}")
    return done.stdout


@dataclass(frozen=True, slots=True)
class Network:
    """The network of a cluster. The host is on its bridge too, so that it reaches every node."""

    name: str
    subnet: str
    numbers: tuple[int, ...]

    @staticmethod
    def of(cluster: Cluster) -> "Network":
        """That of a cluster, whether it is there or not."""
        subnet = cluster.nodes[0].client.rpartition(".")[0]
        return Network(_name_for(cluster.identity), subnet, tuple(node.id for node in cluster.nodes))

    @property
    def bridge(self) -> str:
        """The interface of the host."""
        return f"{self.name}b"

    def address(self, number: int) -> str:
        """A node's own, without a port."""
        return f"{self.subnet}.{number}"

    def namespace(self, number: int) -> str:
        """As `ip netns` lists it."""
        return f"{self.name}n{number}"

    def link(self, number: int) -> str:
        """The end of the node's cable that is on the bridge."""
        return f"{self.name}v{number}"

    def inside(self, number: int) -> list[str]:
        """What stands before the command line of a process that is to live there; the pid stays.

        Not `ip netns exec`: that gives the process mounts of its own, and so keeps every disk mounted.
        """
        return [shutil.which("nsenter") or "nsenter", f"--net={self._path(number)}", "--"]

    # --- there and gone ----------------------------------------------------------------------------

    def bring_up(self, owner: Path) -> None:
        """Make what is not there; what is there stays. Raises `NetworkRefused`.

        `owner` is the directory of the cluster's description: without that nobody needs the network.
        """
        if not (LINKS / self.bridge).exists():
            taken = _interface_in(self.subnet)
            if taken:
                raise NetworkRefused(
                    f"the addresses {self.subnet}.0/24 of this cluster are those of the interface {taken}",
                    next_step=f"ip link show {taken}; when that is gone, start the cluster again",
                )
            ip("link", "add", self.bridge, "type", "bridge")
            if len(os.fsencode(owner)) <= LONGEST_ALIAS_BYTES:
                ip("link", "set", self.bridge, "alias", str(owner))
            ip("address", "add", f"{self.address(HOST)}/24", "dev", self.bridge)
            ip("link", "set", self.bridge, "up")
        for number in self.numbers:
            self._plug_in(number)

    def _plug_in(self, number: int) -> None:
        space, outer = self.namespace(number), self.link(number)
        if os.path.ismount(self._path(number)) and (LINKS / outer).exists():
            ip("link", "set", outer, "master", self.bridge, "up")  # the bridge may be a new one
            return
        _delete_link(outer)
        _delete_namespace(space)
        ip("netns", "add", space)
        ip("link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", space)
        ip("link", "set", outer, "master", self.bridge, "up")
        address = f"{self.address(number)}/24"
        inner = [f"address add {address} dev eth0", "link set lo up", "link set eth0 up"]
        ip("-n", space, batch=inner)

    def take_down(self) -> None:
        """Delete all of it, as far as it is there. Raises `NetworkRefused`."""
        take_down(self.name)

    # --- cuts --------------------------------------------------------------------------------------

    def cut(self, cuts: Collection[Cut]) -> None:
        """Lose what the first of each pair sends to the second. Raises `NetworkRefused`."""
        for source in sorted({source for source, _ in cuts}):
            ip(
                "-n",
                self.namespace(source),
                batch=[
                    f"neigh replace {self.address(to)} lladdr {NOWHERE} nud permanent dev eth0"
                    for one, to in sorted(cuts)
                    if one == source
                ],
            )

    def mend(self, cuts: Collection[Cut]) -> None:
        """End those of the cuts that are there. Raises `NetworkRefused`."""
        there = self.cuts() & set(cuts)
        for source in sorted({source for source, _ in there}):
            words = [f"neigh del {self.address(to)} dev eth0" for one, to in sorted(there) if one == source]
            ip("-n", self.namespace(source), batch=words)

    def cuts(self) -> frozenset[Cut]:
        """The cuts that are there now, as the kernel has them."""
        numbers = {self.address(number): number for number in self.numbers}
        found = set()
        for source in self.numbers:
            if not os.path.ismount(self._path(source)):
                continue
            listing = ip("-n", self.namespace(source), "-j", "neigh", "show", "nud", "permanent")
            entries: list[dict[str, Any]] = json.loads(listing or "[]")
            for entry in entries:
                if entry.get("lladdr") == NOWHERE and entry.get("dst") in numbers:
                    found.add((source, numbers[entry["dst"]]))
        return frozenset(found)

    def carries(self, source: int, destination: int) -> bool:
        """Does a datagram get from one namespace to the other? The way back is not asked.

        Waits `PROBE_S` before it says no. Raises `NetworkRefused` when a namespace is not there.
        """
        token = secrets.token_bytes(16)
        with (
            self.socket_in(destination, socket.SOCK_DGRAM) as ear,
            self.socket_in(source, socket.SOCK_DGRAM) as mouth,
        ):
            ear.settimeout(PROBE_S)
            ear.bind((self.address(destination), 0))
            for _ in range(PROBES):
                mouth.sendto(token, ear.getsockname())
            try:
                return ear.recv(len(token)) == token
            except TimeoutError:
                return False

    def socket_in(self, number: int, kind: socket.SocketKind) -> socket.socket:
        """A socket that belongs to the node's namespace, wherever it is used. Raises `NetworkRefused`."""
        made: list[socket.socket | OSError] = []

        def enter_and_make() -> None:  # a namespace is entered by a thread, and this one ends here
            try:
                with self._path(number).open("rb") as space:
                    if _LIBC.setns(space.fileno(), _CLONE_NEWNET) != 0:
                        code = ctypes.get_errno()
                        raise OSError(code, os.strerror(code))
                made.append(socket.socket(socket.AF_INET, kind))
            except OSError as error:
                made.append(error)

        thread = threading.Thread(target=enter_and_make)
        thread.start()
        thread.join()
        (outcome,) = made
        if isinstance(outcome, OSError):
            raise NetworkRefused(
                f"the namespace {self.namespace(number)} cannot be entered: {outcome.strerror}"
            ) from outcome
        return outcome

    def _path(self, number: int) -> Path:
        return NAMESPACES / self.namespace(number)


def free_subnet(taken: Collection[str]) -> str:
    """The first three bytes of addresses that no interface of this machine has, and none of `taken`."""
    listing = ip("-4", "-o", "address")
    free = [subnet for subnet in SUBNETS if subnet not in taken and f" {subnet}." not in listing]
    if not free:
        raise NetworkRefused("every subnet of 198.18.0.0/15 is taken")
    return secrets.choice(free)  # two that look at the same time should not choose the same


def abandoned() -> list[str]:
    """The names of networks made here whose cluster is gone."""
    entries = (*_listed(LINKS), *_listed(NAMESPACES))
    names = {match[1] for entry in entries if (match := _NAME.fullmatch(entry))}
    return sorted(name for name in names if not _is_needed(name))


def take_down(name: str) -> None:
    """Delete the network of that name, as far as it is there. Raises `NetworkRefused`."""
    for link in _listed(LINKS):
        if re.fullmatch(rf"{name}v\d+", link):
            _delete_link(link)  # first: it would go with the namespace, but some time later
    for space in _listed(NAMESPACES):
        if re.fullmatch(rf"{name}n\d+", space):
            _delete_namespace(space)
    _delete_link(f"{name}b")


def _name_for(identity: str) -> str:
    """Short, since an interface's name has 15 characters at most."""
    return f"es{blake2b(identity.encode(), digest_size=4).hexdigest()}"


def _is_needed(name: str) -> bool:
    """Has it a cluster? Its bridge says where that is described."""
    try:
        owner = (LINKS / f"{name}b" / "ifalias").read_text(encoding="utf-8").strip()
    except OSError:
        owner = ""
    if owner:
        try:
            described = json.loads((Path(owner) / "cluster.json").read_text(encoding="utf-8"))
            return _name_for(described["identity"]) == name
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, TypeError):
            return True  # there is something: nobody should take its network away
    spaces = [space for space in _listed(NAMESPACES) if re.fullmatch(rf"{name}n\d+", space)]
    if not spaces:
        return True  # a bridge alone, and no word of whose it is: most likely it is being made
    return any(_is_lived_in(space) for space in spaces)


def _is_lived_in(space: str) -> bool:
    try:
        return bool(ip("netns", "pids", space).strip())
    except NetworkRefused:
        if (NAMESPACES / space).exists():
            raise
        return False  # it was deleted meanwhile


def _interface_in(subnet: str) -> str:
    """The interface that has an address there; empty when none has."""
    for line in ip("-4", "-o", "address").splitlines():
        if f" {subnet}." in line:
            return line.split()[1]
    return ""


def _listed(directory: Path) -> list[str]:
    return sorted(os.listdir(directory)) if directory.is_dir() else []


def _delete_link(name: str) -> None:
    _delete(LINKS / name, "link")


def _delete_namespace(name: str) -> None:
    _delete(NAMESPACES / name, "netns")


def _delete(path: Path, kind: str) -> None:
    """Delete a link or a namespace that is there; somebody else may do the same."""
    if not path.exists():
        return
    try:
        ip(kind, "del", path.name)
    except NetworkRefused:
        if path.exists():
            raise
