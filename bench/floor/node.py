"""One node of the floor: `python -m bench.floor.node DIRECTORY LISTENING_FD [FOLLOWER_PORT ...]`.

With followers' ports it leads: it makes one entry of the batches that come together, writes it and sends it
on at the same time, and acks each batch when a majority has it on disk. Without, it writes what comes and
acks. Ends when its client or its leader has closed the connection and everything is on disk. Started by
`cluster.py`.
"""

import gc
import socket
import sys
import threading
from collections import deque
from functools import partial
from pathlib import Path

import trio

from bench.floor.disk import Disk, Rows
from bench.floor.layouts import (
    APPEND,
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
from bench.floor.merging import CHECKSUM, TERM, Entry
from bench.floor.sockets import READY, Outlet, connect, receive, tune


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
        """Those of each entry, in the order of the log; the first are of entry `_committed + 1`."""
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
        at, entries = 0, list[Entry]()
        while have - at >= APPEND.size:
            length, _, request, _, _, count, *_, size = APPEND.unpack_from(buffer, at)
            end = at + LENGTH_BYTES + length
            if end > have:
                break
            if not entries or not entries[-1].takes(count, size):
                entries.append(self._next_entry(entries))
            entries[-1].add(request, count, buffer[at + APPEND.size : end])
            at = end
        if entries:
            self._pass_on(entries)
        return at

    def _next_entry(self, entries: list[Entry]) -> Entry:
        if not entries:
            return Entry(self._index + 1, self._offset)
        return Entry(entries[-1].index + 1, entries[-1].offset + entries[-1].count)

    def _pass_on(self, entries: list[Entry]) -> None:
        """To the followers and to the disk; the records are parts of the frame."""
        parts: list[bytes | memoryview] = [b""]
        for entry in entries:
            parts += entry.parts()
            self._acks.append(b"".join(entry.acks))
        size = sum(map(len, parts)) + ENTRIES.size - LENGTH_BYTES
        parts[0] = ENTRIES.pack(size, ENTRIES_TYPE, TERM, self._index, TERM, self._committed, len(entries))
        frame = b"".join(parts)
        for outlet in self._outlets:
            outlet.send(frame)
        self._turn += 1
        block, at, rows = memoryview(frame), ENTRIES.size, Rows()
        for entry in entries:
            begin = at + RECORD_AT
            at = begin + entry.size_bytes
            rows += (entry.index, entry.offset, self._turn, self._committed, self._position, CHECKSUM,
                     block[begin:at])  # fmt: skip
            self._position += at - begin
        self._index, self._offset = entries[-1].index, entries[-1].offset + entries[-1].count
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
