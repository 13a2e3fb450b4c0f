"""Bytes <-> frozen messages: `frames` finds where one ends, the others know what is inside."""

from esnode.wire.chunks import SnapshotAssembler, SnapshotChunk, chunks
from esnode.wire.frames import CODECS, Codec, FrameReader, Message, encode, encode_parts

__all__ = [
    "CODECS",
    "Codec",
    "FrameReader",
    "Message",
    "SnapshotAssembler",
    "SnapshotChunk",
    "chunks",
    "encode",
    "encode_parts",
]
