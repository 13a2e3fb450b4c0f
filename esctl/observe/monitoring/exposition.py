"""All figures of a cluster as Prometheus reads them, from one look at all nodes.

Pure. The text format 0.0.4: HELP and TYPE once a name, base units, counters end with `_total`, the buckets
of a histogram are cumulative. A node that does not answer has `up` 0 and no other figures. With several
partitions, what each has of its own has the label `partition`. Called by `esctl status metrics --format
prometheus`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from esctl.clusters.backends.interface import RunState
from esctl.observe.diagnosis.situation import Situation
from esctl.observe.monitoring.probes import ProbeReading
from esctl.query.dedupstate import DedupState
from esctl.query.ringsurvey import RingSurvey
from esctl.query.survey import Survey

PREFIX: Final = "eventstreamcore"
APPEND_BOUNDS_US: Final = (*(part << shift for shift in range(4, 20) for part in (8, 12)), 1 << 23)
"""From 128 us to 8.4 s, two for each doubling. All are bounds that nodes count by, so the sums are exact.
They are the same in every scrape and for every node, so that rates and sums over nodes hold."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A name, what it says, and how it is read from a node's status."""

    name: str
    help: str
    read: Callable[[Mapping[str, Any]], float | None]
    kind: str = "gauge"


def _key(name: str, scale: float = 1.0) -> Callable[[Mapping[str, Any]], float | None]:
    def read(status: Mapping[str, Any]) -> float | None:
        value = status.get(name)
        return None if isinstance(value, bool) or not isinstance(value, int | float) else value * scale

    return read


def _dedup(name: str, scale: float = 1.0) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda status: _key(name, scale)(status.get("dedup") or {})


def _full(status: Mapping[str, Any]) -> float | None:
    full = DedupState.of(status).full
    return None if full is None else float(full)


NODE_METRICS: Final = (
    Metric("leader", "1 on the node that says it leads", lambda s: float(s.get("role") == "leader")),
    Metric(
        "rejoining", "1 while a node does not trust its own disk", lambda s: float(bool(s.get("rejoining")))
    ),
    Metric("term", "the term that the node is in", _key("term")),
    Metric("last_index", "the last entry of its log", _key("last_index")),
    Metric("durable_index", "the last entry on its disk", _key("durable_index")),
    Metric("commit_index", "the last entry that it knows a majority has", _key("commit_index")),
    Metric("applied_index", "the last entry that it has applied", _key("applied_index")),
    Metric("first_offset", "the first event that is kept", _key("first_offset")),
    Metric("events_total", "events in the log, those cut away included", _key("next_offset"), "counter"),
    Metric("silence_seconds", "since it heard from a leader; -0.001 if never", _key("silence_ms", 0.001)),
    Metric("resident_memory_bytes", "memory of the process", _key("rss_bytes")),
    Metric("cpu_seconds_total", "processor time of the process", _key("cpu_s"), "counter"),
    Metric("uptime_seconds", "since the process began", _key("uptime_s")),
    Metric("storage_bytes", "what the log takes on disk", _key("storage_bytes")),
    Metric("wall_time_seconds", "its wall clock", _key("wall_time_ms", 0.001)),
    Metric("faults_active", "injected faults that are active", lambda s: float(len(s.get("faults") or []))),
    Metric("dedup_keys", "keys that are remembered", _dedup("live_keys")),
    Metric("dedup_max_keys", "keys that are remembered at most", _dedup("max_keys")),
    Metric("dedup_window_seconds", "how far back all keys are known", _dedup("window_ms", 0.001)),
    Metric("dedup_disk_bytes", "keys that are on disk and not in memory", _dedup("bytes_on_disk")),
    Metric("dedup_memory_bytes", "the other keys, and the index of all", _dedup("bytes_in_memory")),
    Metric("dedup_full", "1 while keys are forgotten early or new events refused", _full),
    Metric("dedup_refused_total", "batches refused by a full window", _dedup("refused"), "counter"),
    Metric(
        "dedup_forgotten_early_total",
        "keys forgotten before their time",
        _dedup("forgotten_early"),
        "counter",
    ),
    Metric("producers", "producer sessions that are open", _dedup("producers")),
)
PEER_METRICS: Final = (
    Metric(
        "peer_connected", "1 while the way to the peer is open", lambda s: float(bool(s.get("connected")))
    ),
    Metric("peer_outbox_bytes", "what waits to be sent to the peer", _key("outbox_bytes")),
    Metric("peer_match_index", "the last entry that the peer is known to have", _key("match_index")),
    Metric("peer_inflight_bytes", "what is on its way to the peer", _key("inflight_bytes")),
)


@dataclass(frozen=True, slots=True)
class MetricLine:
    """One line below the head of a metric; `suffix` is what a histogram's lines have after the name."""

    labels: Mapping[str, str]
    value: float
    suffix: str = ""


def exposition(every: Sequence[Situation], readings: Sequence[ProbeReading]) -> Iterator[str]:
    """Everything, a line each; `every` has the situation of each partition."""
    yield from _of_cluster(every)
    if len(every) > 1:
        yield from _of_ring(RingSurvey(every[0].survey.cluster, [seen.survey for seen in every]))
    yield from _of_nodes(every)
    yield from checks(every, readings)


def checks(every: Sequence[Situation], readings: Sequence[ProbeReading]) -> Iterator[str]:
    """The probes that were asked for: their figure and their state."""
    name = every[0].survey.cluster.name
    known = [reading for reading in readings if reading.value is not None]
    yield from _family(
        "check_value", "the figure of a probe of esctl status metrics", "gauge",
        [({"cluster": name, "probe": r.probe.name}, r.value) for r in known],
    )  # fmt: skip
    yield from _family(
        "check_state", "0 ok, 1 warning, 2 critical, 3 unknown", "gauge",
        [({"cluster": name, "probe": r.probe.name}, float(r.state)) for r in readings],
    )  # fmt: skip


CLUSTER_METRICS: Final[tuple[tuple[str, str, Callable[[Situation], float | None]], ...]] = (
    ("nodes_up", "nodes that answer", lambda seen: len(seen.survey.up)),
    ("quorum_needed", "nodes that make a majority", lambda seen: seen.survey.cluster.quorum),
    ("quorum_spare", "nodes that may fail yet; negative without a quorum",
     lambda seen: seen.survey.may_fail),
    ("has_leader", "1 when a node leads that no majority has outvoted",
     lambda seen: seen.survey.leader is not None),
    ("read_seconds", "how long a read took that a majority has confirmed",
     lambda seen: None if seen.read_ms is None else seen.read_ms / 1000),
)  # fmt: skip
"""What is said of a partition as a whole."""


def _of_cluster(every: Sequence[Situation]) -> Iterator[str]:
    cluster = every[0].survey.cluster
    yield from _family(
        "nodes", "nodes that are configured", "gauge", [({"cluster": cluster.name}, len(cluster.nodes))]
    )
    for name, text, read in CLUSTER_METRICS:
        yield from _family(name, text, "gauge", [(_labels(seen.survey), read(seen)) for seen in every])


def _of_ring(ring: RingSurvey) -> Iterator[str]:
    labels, said = {"cluster": ring.cluster.name}, ring.ring_data()
    yield from _family("ring_version", "the ring that the nodes go by", "gauge", [(labels, said["version"])])
    yield from _family("ring_partitions", "its partitions", "gauge", [(labels, said["partitions"])])
    yield from _family("ring_moving", "1 while sources move", "gauge", [(labels, said["moving"])])
    shares = [({**labels, "partition": str(one)}, share) for one, share in ring.shares.items()]
    yield from _family("ring_share", "the part of all sources that the partition owns", "gauge", shares)


def _labels(survey: Survey, number: int | None = None) -> dict[str, str]:
    """Of a partition or, by its number, a node in it."""
    labels = {"cluster": survey.cluster.name}
    if survey.partition is not None:
        labels["partition"] = str(survey.partition)
    return labels if number is None else {**labels, "node": str(number)}


def _of_nodes(every: Sequence[Situation]) -> Iterator[str]:
    replicas = [(seen.survey, report) for seen in every for report in seen.survey.reports]
    labels = {id(report): _labels(survey, report.node.id) for survey, report in replicas}
    up = [(labels[id(r)], r.status) for _, r in replicas if r.status is not None]
    yield from _family(
        "up", "1 when the node answers", "gauge", [(labels[id(r)], float(r.up)) for _, r in replicas]
    )
    yield from _family(
        "process_running", "1 when it has a process that is not paused", "gauge",
        [(labels[id(r)], r.process.state_of(survey.partition) is RunState.RUNNING) for survey, r in replicas],
    )  # fmt: skip
    for metric in NODE_METRICS:
        rows = [(labelled, metric.read(status)) for labelled, status in up]
        yield from _family(metric.name, metric.help, metric.kind, rows)
    yield from _histogram(
        "append_duration_seconds",
        "from when the node took a batch in to its ack, of every batch since it began; only a leader acks",
        [(labelled, counts) for labelled, status in up if (counts := _append_counts(status)) is not None],
    )
    lags = [(labels[id(r)], survey.behind(r, "next_offset")) for survey, r in replicas if r.up]
    yield from _family("lag_events", "events that the node is behind the leader", "gauge", lags)
    yield from _of_disks(every[0])
    for metric in PEER_METRICS:
        rows = [
            ({**labelled, "peer": str(peer)}, metric.read(link))
            for labelled, status in up
            for peer, link in (status.get("peers") or {}).items()
        ]
        yield from _family(metric.name, metric.help, metric.kind, rows)


def _of_disks(seen: Situation) -> Iterator[str]:
    """All partitions of a node are on one disk."""
    disks = {
        number: ({"cluster": seen.survey.cluster.name, "node": str(number)}, disk)
        for number, disk in seen.disks.items()
    }
    free = [(labels, disk.free_bytes) for labels, disk in disks.values()]
    yield from _family("disk_free_bytes", "room for the node's data directory", "gauge", free)
    sizes = [(labels, disk.total_bytes) for labels, disk in disks.values()]
    yield from _family("disk_total_bytes", "size of that file system", "gauge", sizes)


def _append_counts(status: Mapping[str, Any]) -> dict[int, int] | None:
    """Batches by a bound in microseconds; None of a node that does not count them."""
    counts = status.get("append_us")
    return None if counts is None else {int(bound_us): int(count) for bound_us, count in counts}


def _family(
    name: str, text: str, kind: str, rows: Sequence[tuple[Mapping[str, str], float | None]]
) -> Iterator[str]:
    """A metric with all its label sets; nothing where no figure is known."""
    yield from _lines(
        name, text, kind, [MetricLine(labels, value) for labels, value in rows if value is not None]
    )


def _histogram(
    name: str, text: str, rows: Sequence[tuple[Mapping[str, str], Mapping[int, int]]]
) -> Iterator[str]:
    """Counts by a bound in microseconds, as buckets in seconds. It has no `_sum`: nodes do not tell one."""
    samples: list[MetricLine] = []
    for labels, counts in rows:
        for bound_us in APPEND_BOUNDS_US:
            below = sum(count for bound, count in counts.items() if bound <= bound_us)
            samples.append(MetricLine({**labels, "le": _number(bound_us / 1e6)}, below, "_bucket"))
        total = sum(counts.values())
        samples += [
            MetricLine({**labels, "le": "+Inf"}, total, "_bucket"),
            MetricLine(labels, total, "_count"),
        ]
    yield from _lines(name, text, "histogram", samples)


def _lines(name: str, text: str, kind: str, samples: Sequence[MetricLine]) -> Iterator[str]:
    """The head of a metric and its lines; nothing where there is none."""
    if not samples:
        return
    yield f"# HELP {PREFIX}_{name} {text}"
    yield f"# TYPE {PREFIX}_{name} {kind}"
    for one in samples:
        inside = ",".join(f'{key}="{_escaped(label)}"' for key, label in one.labels.items())
        yield f"{PREFIX}_{name}{one.suffix}{{{inside}}} {_number(one.value)}"


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
