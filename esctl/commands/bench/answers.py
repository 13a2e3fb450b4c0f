"""What `esctl bench` answers under `-o json`: the types of its data. Imported by nothing at run time."""

from typing import Annotated, Literal, NotRequired, TypedDict

from esctl.bench.backgroundloads import LoadData
from esctl.bench.comparison import ChangeData, FigureVerdict
from esctl.bench.endurance import IntervalData
from esctl.bench.result import Measurement, Result
from esctl.bench.trial import LoadsDetail, LoadSettings, RateDetail
from esctl.bench.usage import NodeUseData
from esctl.chaos.failover.kinds import StrikeKind
from esctl.cli.guard import QuorumChangeData
from esctl.ui.values import Address, ClusterName, Count, FilePath, Milliseconds, NodeId, Seconds, UnixTime

# --- measurements --------------------------------------------------------------------------------


class UnmeasuredAnswer(TypedDict):
    """What became of the events of a measurement that was interrupted before it had figures."""

    acked_in_all: Count
    failed: Count
    unknown: Count


class ProduceDetail(RateDetail, LoadsDetail):
    """What is told of `bench produce` besides its figures."""

    latency_from: Literal["the intended send time", "the sending (closed loop)"]
    generator_us_per_event: float
    nodes: list[NodeUseData]


ProduceResult = Result[LoadSettings, ProduceDetail]
ProduceMeasured = Measurement[LoadSettings, ProduceDetail]


# The settings have a key that is a word of Python.
ReadFrom = TypedDict("ReadFrom", {"from": Literal["leader", "follower"]})


class ConsumeSettings(ReadFrom):
    """What one must do the same to compare."""

    from_offset: Annotated[Count | None, "null where several partitions are read"]
    events: Count
    decode: bool
    partition: NotRequired[Annotated[Count | None, "Of several: the one that is read; null for all"]]


class ConsumeDetail(TypedDict):
    """What is told of `bench consume` besides its figures."""

    node: Annotated[NodeId | None, "null where several nodes are read from"]


ConsumeResult = Result[ConsumeSettings, ConsumeDetail]
ConsumeMeasured = Measurement[ConsumeSettings, ConsumeDetail]


class DeliverySettings(LoadSettings, ReadFrom):
    """What one must do the same to compare."""


class DeliveryDetail(RateDetail, LoadsDetail):
    """What is told of `bench e2e` besides its figures."""

    latency_from: Literal["the intended send time"]
    node: Annotated[NodeId | None, "null where several nodes are followed"]
    nodes: list[NodeUseData]


DeliveryResult = Result[DeliverySettings, DeliveryDetail]
DeliveryMeasured = Measurement[DeliverySettings, DeliveryDetail]


class SoakSettings(LoadSettings):
    """What one must do the same to compare."""

    interval_s: Seconds


class SoakDetail(RateDetail):
    """What is told of `bench soak` besides its figures; null is too short to tell."""

    memory_flat: bool | None
    latency_steady: bool | None
    intervals: list[IntervalData]
    errors_by_code: dict[str, int]


SoakResult = Result[SoakSettings, SoakDetail]
SoakMeasured = Measurement[SoakSettings, SoakDetail]


SweepBounds = TypedDict("SweepBounds", {"from": float | None, "to": float | None, "factor": float | None})


class SweepSettings(SweepBounds):
    """What one must do the same to compare; either the rates are listed, or how they rise."""

    x: Literal["events/s asked"]
    bound_p99_ms: Milliseconds
    seconds: Seconds
    warmup_s: Seconds
    size_bytes: int
    batch: int
    window: int
    runs_a_rate: int
    refine: int
    rates: list[float] | None


SweepVerdict = Literal["within", "p99 over", "behind", "failures", "nothing acked"]


class SweepStepData(TypedDict):
    """One rate: the medians over its runs, and of what should never be, the worst run."""

    rate: float
    verdict: SweepVerdict
    events_per_s: float
    payload_mb_per_s: float
    p50_ms: Milliseconds | None
    p99_ms: Milliseconds | None
    p999_ms: Milliseconds | None
    max_ms: Milliseconds | None
    raw_p50_ms: Milliseconds | None
    raw_p99_ms: Milliseconds | None
    raw_p999_ms: Milliseconds | None
    raw_max_ms: Milliseconds | None
    acked: float
    failed: Count
    unknown: Count
    unfinished: int
    leader_cpu_us_per_event: float | None
    follower_cpu_us_per_event: float | None
    client_cpu_us_per_event: float | None
    nodes_cpu_us_per_event: NotRequired[Annotated[float | None, "All nodes; only with several partitions"]]
    leader_rss_bytes: float | None
    follower_rss_bytes: float | None
    node_rss_bytes: NotRequired[Annotated[float | None, "The largest; only with several partitions"]]


class SweepDetail(TypedDict):
    """What is told of `bench sweep` besides the figures of the knee."""

    knee: Annotated[float | None, "The highest rate within the bound; null is that none was"]
    broken: Annotated[float | None, "The lowest rate that was not; null is that all were"]
    steps: list[SweepStepData]


SweepResult = Result[SweepSettings, SweepDetail]
SweepMeasured = Measurement[SweepSettings, SweepDetail]


class FailoverSettings(TypedDict):
    """What one must do the same to compare."""

    strike: StrikeKind
    rate_per_s: float
    events_a_batch: int
    size_bytes: int
    window: int
    x: Literal["strike"]
    partition: NotRequired[Annotated[int, "Of several: the one whose leader is struck"]]


class SpreadData(TypedDict):
    """One figure over all strikes."""

    count: Count
    min: float
    median: float
    p99: float
    max: float


class FailoverStrike(TypedDict):
    """One strike; times of the election in milliseconds from the strike, null is not known."""

    node: NodeId
    term: Count
    at: UnixTime
    missed: Annotated[str | None, "Why it is not certain that it hit"]
    never_over_s: Annotated[Seconds | None, "Nothing was acked for so long, until the node was brought back"]
    new_leader: NodeId | None
    new_term: Count | None
    elections: Annotated[int | None, "How many terms there were from the one that was struck on"]
    noticed_ms: float | None
    unavailable_ms: Milliseconds | None
    next_ack_ms: float | None
    detect_ms: float | None
    elect_ms: float | None
    first_commit_ms: float | None
    client_ms: float | None
    leaderless_ms: float | None
    return_ms: Milliseconds | None
    calm_ms: Milliseconds | None


class ClientTimers(TypedDict):
    """How long the client waits, and for what."""

    dial_again_s: Seconds
    dial_again_at_most_s: Seconds
    ask_when_due_s: Seconds
    ask_when_idle_s: Seconds
    hang_up_s: Seconds
    send_again_s: Seconds
    send_again_refused_by_all_s: Seconds
    timeout_s: Seconds | None


class FailoverClient(TypedDict):
    """The client under whose load the leader was struck."""

    dials_at_once: list[Address]
    timers: ClientTimers


class FailoverDetail(TypedDict):
    """The strikes, and what was held against the logs after them; null is that nothing was."""

    spreads: dict[str, SpreadData | None]
    strikes: list[FailoverStrike]
    acked: Count
    never_acked: Count
    errors_by_code: dict[str, int]
    client: FailoverClient
    judged: bool
    equal_hashes: bool | None
    flaws: list[str]
    doubts: list[str]


FailoverResult = Result[FailoverSettings, FailoverDetail]
FailoverMeasured = Measurement[FailoverSettings, FailoverDetail]


class PlannedFailoverAnswer(TypedDict):
    """The strikes that would be made."""

    cluster: ClusterName
    kind: StrikeKind
    times: Count
    quorum: QuorumChangeData
    dry_run: Literal[True]


# --- background loads ----------------------------------------------------------------------------


class StartedLoadAnswer(LoadData):
    """A load that was started."""

    cluster: ClusterName
    rate_per_s: float
    seconds: Seconds


class PlannedLoadAnswer(TypedDict):
    """A load that would be started."""

    cluster: ClusterName
    load: str
    dry_run: Literal[True]
    rate_per_s: float


class StoppedLoadAnswer(LoadData):
    """A load that was stopped; it may have been over."""

    cluster: ClusterName
    stopped: bool


class PlannedStopLoadAnswer(LoadData):
    """A load that would be stopped."""

    cluster: ClusterName
    dry_run: Literal[True]


class LoadRow(LoadData):
    """A load, and for how long it goes on."""

    cluster: ClusterName
    begun: str
    seconds: float
    left_s: Seconds
    rate_per_s: float


class LoadsAnswer(TypedDict):
    """The background loads."""

    loads: list[LoadRow]


# --- saved results -------------------------------------------------------------------------------


class BenchReportAnswer(TypedDict):
    """The page that was written of saved results."""

    file: FilePath
    bytes: int
    results: list[str]


class ComparedData(TypedDict):
    """A result against the first one."""

    file: FilePath
    verdict: FigureVerdict
    warnings: list[str]
    figures: list[ChangeData]


class CompareAnswer(TypedDict):
    """Results, each against the first one."""

    base: FilePath
    comparisons: list[ComparedData]
