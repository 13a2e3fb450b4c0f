"""The doors of a node, by name, and how many of a hundred cases each gets."""

from typing import Final

from . import framing, peers, stored, texts
from .target import Target

TARGETS: Final = {
    target.name: target
    for target in (
        Target("frames", framing.frames, framing.frame_seeds, 33),
        Target("handshake", framing.handshake, framing.handshake_seeds, 5),
        Target("core", peers.core, peers.core_seeds, 15),
        Target("stored", stored.stored, stored.stored_seeds, 15),
        Target("cbor", framing.strict_cbor, framing.cbor_seeds, 12),
        Target("events", texts.events, texts.event_seeds, 12),
        Target("config", texts.configuration, texts.config_seeds, 8),
    )
}
