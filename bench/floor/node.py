"""One node of the floor: `python -m bench.floor.node DIRECTORY LISTENING_FD [FOLLOWER_PORT ...]`.

With followers' ports it leads: it writes each batch and sends it on at the same time, and acks it when a
majority has it on disk. Without, it writes what comes and acks. Ends when its client or its leader has
closed the connection and everything is on disk. Started by `cluster.py`.
"""

import gc
import socket
import sys
import threading
from collections import deque
from functools import partial
from pathlib import Path
from typing import Final

import trio

from bench.floor.disk import Disk, Rows
from bench.floor.layouts import (
    APPEND,
    APPENDED,
    APPENDED_TYPE,
    BASE_OFFSET,
    BASE_OFFSET_AT,
    ENTRIES,
    ENTRIES_TYPE,
    LENGTH_BYTES,
    RECORD,
    RECORD_AT,
    REPLY,
    REPLY_TYPE,
)
from bench.floor.sockets import READY, Outlet, connect, receive, tune

TERM: Final = 1
BATCH_KIND: Final = 1
CHECKSUM: Final = 0x9E3779B9
"""Stands where `esnode` has a checksum: as many bytes, computed by nobody."""


class Follower:
    """Writes what comes and acks it."""

    def __init__(self, directory: Path, leader: socket.socket) -> None:
        self._leader = leader
        self._disk = Disk(directory, self._durable)
        self._turn = self._position = self._index = 0

    async def run(self) -> None:
        """Until the leader has ended and everything is on disk."""
        await receive(self._leader, self._take)
        await trio.to_thread.run_sync(self._disk.stop)
        self._leader.shutdown(socket.SHUT_WR)

    def _take(self, buffer: memoryview, have: int) -> int:
        at, rows = 0, Rows()
        while have - at >= ENTRIES.size:
            length, _, _, _, _, commit, number = ENTRIES.unpack_from(buffer, at)
            end = at + LENGTH_BYTES + length
            if end > have:
                break
            block = memoryview(bytes(buffer[at + ENTRIES.size : end]))
            self._split(block, commit, number, rows)
            at = end
        if rows:
            self._disk.put(rows)
        return at

    def _split(self, block: memoryview, commit: int, number: int, rows: Rows) -> None:
        self._turn += 1
        turn, index, position, at = self._turn, self._index, self._position, 0
        for _ in range(number):
            begin = at + RECORD_AT
            at = begin + RECORD.unpack_from(block, at)[0]
            (offset,) = BASE_OFFSET.unpack_from(block, begin + BASE_OFFSET_AT)
            index += 1
            rows += (index, offset, turn, commit, position, CHECKSUM, block[begin:at])
            position += at - begin
        self._index, self._position = index, position

    def _durable(self, index: int) -> None:
        send_whole(self._leader, REPLY.pack(REPLY.size - LENGTH_BYTES, REPLY_TYPE, TERM, index))


class Leader:
    """Takes batches from the client, has them written in three places, acks them at two."""

    def __init__(self, directory: Path, client: socket.socket, followers: list[socket.socket]) -> None:
        self._client = client
        self._followers = followers
        self._outlets = [Outlet(follower) for follower in followers]
        self._disk = Disk(directory, partial(self._durable, len(followers)))
        self._index = self._offset = self._position = self._turn = 0
        self._acks: deque[bytes] = deque()
        """Those that are due, in the order of their entries; the first is of entry `_committed + 1`."""
        self._committed = 0
        self._durable_to = [0] * (len(followers) + 1)
        """Of each follower, and of this node's own disk."""
        self._lock = threading.Lock()

    async def run(self) -> None:
        """Until the client has ended and everything is on all three disks."""
        async with trio.open_nursery() as nursery:
            for number, follower in enumerate(self._followers):
                nursery.start_soon(receive, follower, partial(self._take_reply, number))
                nursery.start_soon(self._outlets[number].run)
            await receive(self._client, self._take)
            for outlet in self._outlets:
                outlet.end()
        await trio.to_thread.run_sync(self._disk.stop)

    def _take(self, buffer: memoryview, have: int) -> int:
        at, index, offset = 0, self._index, self._offset
        parts: list[bytes | memoryview] = [b""]
        spans: list[tuple[int, int]] = []
        while have - at >= APPEND.size:
            length, _, request, partition, count, producer, epoch, sequence, covered, size = (
                APPEND.unpack_from(buffer, at)
            )
            end = at + LENGTH_BYTES + length
            if end > have:
                break
            body = buffer[at + APPEND.size : end]  # keys and payload, as they are stored
            index += 1
            size_bytes = RECORD.size - RECORD_AT + len(body)
            parts += (
                RECORD.pack(size_bytes, CHECKSUM, 1, BATCH_KIND, partition, index, TERM, offset, index,
                            count, producer, epoch, sequence, covered, size),
                body,
            )  # fmt: skip
            spans.append((offset, size_bytes))
            self._acks.append(
                APPENDED.pack(APPENDED.size - LENGTH_BYTES, APPENDED_TYPE, request, 0, 1, offset, count)
            )
            offset += count
            at = end
        if spans:
            size = sum(map(len, parts)) + ENTRIES.size - LENGTH_BYTES
            parts[0] = ENTRIES.pack(size, ENTRIES_TYPE, TERM, self._index, TERM, self._committed, len(spans))
            self._pass_on(b"".join(parts), spans)
            self._index, self._offset = index, offset
        return at

    def _pass_on(self, frame: bytes, spans: list[tuple[int, int]]) -> None:
        """To the followers and to the disk; the records are parts of the frame."""
        for outlet in self._outlets:
            outlet.send(frame)
        self._turn += 1
        turn, index, position, commit = self._turn, self._index, self._position, self._committed
        block, at, rows = memoryview(frame), ENTRIES.size, Rows()
        for offset, size_bytes in spans:
            begin = at + RECORD_AT
            at = begin + size_bytes
            index += 1
            rows += (index, offset, turn, commit, position, CHECKSUM, block[begin:at])
            position += size_bytes
        self._position = position
        self._disk.put(rows)

    def _take_reply(self, number: int, buffer: memoryview, have: int) -> int:
        whole = have // REPLY.size
        if whole:
            *_, index = REPLY.unpack_from(buffer, (whole - 1) * REPLY.size)
            self._durable(number, index)
        return whole * REPLY.size

    def _durable(self, number: int, index: int) -> None:
        """Called in both threads."""
        with self._lock:
            self._durable_to[number] = index
            committed = sorted(self._durable_to)[len(self._durable_to) // 2]
            if committed > self._committed:
                due = committed - self._committed
                self._committed = committed
                send_whole(self._client, b"".join([self._acks.popleft() for _ in range(due)]))


def send_whole(sock: socket.socket, data: bytes) -> None:
    """Send what always fits: acks, of which there are never more than the client's window."""
    sent = sock.send(data)
    assert sent == len(data), "a socket did not take a few acks"


async def serve(directory: Path, listener: socket.socket, ports: list[int]) -> None:
    """The whole life of a node."""
    followers = [await connect(port) for port in ports]
    await trio.lowlevel.wait_readable(listener)
    other, _ = listener.accept()
    node = Leader(directory, tune(other), followers) if ports else Follower(directory, tune(other))
    send_whole(other, READY)
    await node.run()


def main(arguments: list[str]) -> None:
    """The node's process."""
    directory, descriptor, *ports = arguments
    gc.disable()  # nothing here is part of a cycle
    trio.run(serve, Path(directory), socket.socket(fileno=int(descriptor)), [int(port) for port in ports])


if __name__ == "__main__":
    main(sys.argv[1:])
