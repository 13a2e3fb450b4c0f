"""What `esctl bench` answers under `-o json`: the types of its data. Imported by nothing at run time."""

from typing import Literal, TypedDict

from esctl.bench.backgroundloads import LoadData
from esctl.bench.comparison import ChangeData, FigureVerdict
from esctl.ui.values import ClusterName, FilePath, Seconds

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
