"""How much memory bytes can make a process hold that promise more than they bring; a process of its own.

Prints the growth of its largest resident size, in KiB, over headers of frames, of CBOR and of snapshots
that claim up to a gigabyte and more. Run by the tests: `python -m tests.fuzz.promises`.
"""

import resource
import struct

from esnode import limits
from esnode.errors import FrameTooLarge, ProtocolError
from esnode.messages import Append
from esnode.wire import CODECS, FrameReader, SnapshotAssembler, encode
from esnode.wire.cbor import load
from esnode.wire.chunks import SnapshotChunk

PROMISES = (0x40000000, 2**31, 2**32 - 1, limits.MAX_FRAME_BYTES + 1)


def frames() -> None:
    """Headers over the limit; and as many as a node has connections that promise just what is allowed."""
    for length in PROMISES:
        try:
            FrameReader().feed(struct.pack(">IB", length, CODECS[Append].number))
        except FrameTooLarge:
            continue
        raise AssertionError(f"a header of {length} bytes was taken")
    readers = [FrameReader() for _ in range(limits.MAX_CLIENT_CONNECTIONS)]
    for reader in readers:
        assert reader.feed(struct.pack(">IB", limits.MAX_FRAME_BYTES, CODECS[Append].number)) == []


def bodies() -> None:
    """CBOR heads: bytes, text, array, map, each of 2^30 to 2^63."""
    for major in (0x5A, 0x7A, 0x9A, 0xBA):
        for body in (bytes([major]) + b"\x40\x00\x00\x00", bytes([major + 1]) + b"\x7f" + b"\xff" * 7):
            for wrapped in (body, b"\x82\x01" + body, b"\x81" * 20 + body):
                try:
                    load(wrapped)
                except ProtocolError:
                    continue
                raise AssertionError(f"{wrapped!r} was read")


def snapshots() -> None:
    """First chunks of snapshots of a gigabyte."""
    for _ in range(100):
        chunk = SnapshotChunk(1, 1, 1, 1, 1, limits.MAX_SNAPSHOT_BYTES, 0, b"x")
        (heard,) = FrameReader().feed(encode(chunk))
        assert isinstance(heard, SnapshotChunk)
        assert SnapshotAssembler().add(heard) is None


def main() -> None:
    """Measure all three."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    frames()
    bodies()
    snapshots()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


if __name__ == "__main__":
    main()
