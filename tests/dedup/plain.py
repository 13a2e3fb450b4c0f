"""The rules of the deduplication window written down plainly: every key in a list, nothing clever."""

from esnode.dedup.keywindow import GENERATIONS, UNTIMED_GENERATION_MS


class PlainTable:
    """What `KeyTable` must behave like."""

    def __init__(self, ttl_ms: int, max_keys: int, when_full: str) -> None:
        self.ttl_ms = ttl_ms
        self.max_keys = max_keys
        self.when_full = when_full
        self.keys: list[bytes] = []
        self.closings: list[int] = []
        self.offsets: dict[bytes, int] = {}
        self.floor = 0
        self.shrunk = 0

    def add(self, keys: list[bytes], log_time_ms: int) -> None:
        """Add keys, and shrink."""
        closes_at_ms = self.closings[-1] if self.closings else 0
        if log_time_ms >= closes_at_ms:
            width_ms = max(1, self.ttl_ms // GENERATIONS) if self.ttl_ms else UNTIMED_GENERATION_MS
            closes_at_ms = log_time_ms // width_ms * width_ms + width_ms
        for key in keys:
            self.offsets[key] = len(self.keys)
            self.keys.append(key)
            self.closings.append(closes_at_ms)
            if self.when_full == "shrink" and len(self.keys) - self.floor > self.max_keys:
                self.floor += 1
                self.shrunk += 1

    def expire(self, log_time_ms: int) -> None:
        """Forget what is over."""
        if not self.ttl_ms:
            return
        while self.floor < len(self.keys) and self.closings[self.floor] + self.ttl_ms <= log_time_ms:
            self.floor += 1

    def lookup(self, keys: list[bytes]) -> dict[bytes, int]:
        """Known keys and their latest offsets."""
        return {key: self.offsets[key] for key in keys if self.offsets.get(key, -1) >= self.floor}
