"""`esnode --config FILE`: read the configuration, open the disk, run the node until it is stopped.

With several partitions it is the supervisor of a process for each, which is this program with `--partition`.
Decides exit codes: 0 stopped as asked, 2 the configuration or the command line is wrong, 1 anything else. A
declared error is one line with its cause and the next step, and nothing else.
"""

import argparse
import logging
import os
import random
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import trio

import esnode
from esnode import config as configuration
from esnode import limits
from esnode.config import Config
from esnode.errors import Bug, EventStreamError, InvalidConfig, first_of
from esnode.growth.mover import RingMover
from esnode.jsonlogging import JsonLines, open_node_log
from esnode.node import Node, OpenPort, run_until_stopped, unsound_peers
from esnode.node import listen as own_port
from esnode.storage.place import place_of
from esnode.supervisor.supervisor import supervise
from esnode.transport.handover import InheritedPorts
from esnode.upkeep.repair import Repair, keep_running
from esnode.wallclock import WallClock

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    parser = argparse.ArgumentParser(prog="esnode", description="Run one node of an EventStreamCore cluster")
    parser.add_argument("--config", required=True, type=Path, metavar="FILE", help="the node's TOML file")
    parser.add_argument("--version", action="version", version=f"esnode {esnode.__version__}")
    of_the_data = parser.add_mutually_exclusive_group()
    of_the_data.add_argument(
        "--rejoin", action="store_true", help="the data directory is not this node's latest: ask the others"
    )
    of_the_data.add_argument(
        "--trust-copy",
        action="store_true",
        help="the data directory was moved while the node was stopped, and is its latest",
    )
    of_a_partition = parser.add_argument_group("given by the supervisor of a node with several partitions")
    of_a_partition.add_argument("--partition", type=int, metavar="K", help="be the process of this one")
    of_a_partition.add_argument("--sockets", metavar="C,P", help="which its connections come through")
    options = parser.parse_args(arguments)
    try:
        config = configuration.load(options.config)
        partition: int | None = options.partition
        listen: OpenPort = own_port
        if partition is not None:
            config, listen = _of_partition(config, partition, options.sockets)
        repair = Repair(
            place_of(config), alone=not config.peers, rejoin=options.rejoin, trust_copy=options.trust_copy
        )
    except InvalidConfig as error:
        sys.stderr.write(f"esnode: {error.code}: {error}\nnext: {error.next_step}\n")
        return 2
    os.umask(0o077)  # engines make files of their own
    clock = WallClock()
    node_log = open_node_log(config, clock, partition)
    _raise_descriptor_limit()
    return_code = 0
    try:
        if partition is None and config.partitions > 1:
            once = [*["--rejoin"] * options.rejoin, *["--trust-copy"] * options.trust_copy]
            command = (sys.executable, "-m", "esnode", "--config", str(options.config))
            return_code = 0 if trio.run(supervise, config, command, once) else 1
        else:
            running = partial(keep_running, unsound=partial(unsound_peers, config, listen))
            trio.run(running, repair, partial(_run, config, node_log, clock, repair, listen))
        log.info("node_stopped")
    except* EventStreamError as group:
        return_code = _report(first_of(group))
    except* Exception as group:  # whatever it is, it is a bug, and the log's last line says so
        log.critical(
            "node_failed",
            extra={"code": Bug.code, "reason": repr(group.exceptions[0]), "next": Bug.next_step},
            exc_info=group,
        )
        return_code = 1
    return return_code


def _of_partition(config: Config, partition: int, sockets: str | None) -> tuple[Config, OpenPort]:
    """What the process of one partition runs with, and where its connections come from."""
    try:
        clients, peers = map(int, (sockets or "").split(","))
        ports = InheritedPorts({config.me.client: clients, config.me.peer: peers}, _stop_once())
    except (ValueError, OSError) as error:
        raise InvalidConfig(
            "the process of a partition is started by the supervisor", next_step="esnode --config FILE"
        ) from error
    if not 0 <= partition < config.partitions:
        raise InvalidConfig(f"there is no partition {partition}: the file says {config.partitions}")
    return config.of_partition(partition), ports.listen


def _stop_once() -> Callable[[], None]:
    """What stops this process as SIGTERM does, once: its supervisor has gone."""
    waiting = ["the supervisor has ended"]

    def stop() -> None:
        if waiting:
            log.warning("supervisor_gone", extra={"reason": waiting.pop()})
            signal.raise_signal(signal.SIGTERM)

    return stop


def _raise_descriptor_limit() -> None:
    """As many open files as the system allows: each client is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, limits.MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _report(error: EventStreamError) -> int:
    log.critical("node_failed", extra={"code": error.code, "reason": str(error), "next": error.next_step})
    return 1


async def _run(
    config: Config, node_log: JsonLines, clock: WallClock, repair: Repair, listen: OpenPort
) -> None:
    with ExitStack() as opened:
        # The ports first: a node that cannot serve leaves its directory alone.
        clients = await listen(config.me.client, opened)
        peers = await listen(config.me.peer, opened)
        begun = trio.current_time()
        storage = await trio.to_thread.run_sync(repair.open)
        log.info("storage_opened", extra={"seconds": round(trio.current_time() - begun, 3)})
        opened.callback(storage.close)
        make = partial(Node, config, storage, random.SystemRandom(), clock=clock)
        node = await trio.to_thread.run_sync(make)
        node_log.place = node.place
        moves = config.partition == 0 and config.partitions > 1
        beside = (RingMover(config, node.view).run,) if moves else ()
        await run_until_stopped(node, clients, peers, *beside)


if __name__ == "__main__":
    sys.exit(main())
