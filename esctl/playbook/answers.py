"""What `esctl playbook` answers under `-o json`: the types of its data. Imported by nothing at run time."""

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from esctl.bench.ledger import SampleData
from esctl.playbook.lintrules import LintFindingData
from esctl.playbook.progress import ExactlyOnceDoubts, ExactlyOnceFacts, RunPlaybook, RunStep, RunVerdict
from esctl.playbook.schema import ActionKind, Impact, InputType, OnBreach, OnFail, Risk
from esctl.ui.plain import Nothing
from esctl.ui.values import ClusterName, Count, FilePath, NodeId, Seconds, UnixTime

Chosen = Annotated[dict[str, str], "The words that nodes were chosen by, such as any-follower, by input"]

# --- a run ---------------------------------------------------------------------------------------


class RunSession(TypedDict):
    """A process that drove the run."""

    why: str
    begun: UnixTime
    ended: UnixTime
    how: str | None


class GuardChange(TypedDict):
    """When a guard changed, to what, and the values then."""

    at: UnixTime
    state: str
    text: str


class RunGuard(TypedDict):
    """A guard as it went."""

    expr: str
    state: str
    history: list[GuardChange]


class RunNote(TypedDict):
    """What a step said."""

    at: UnixTime
    step: str
    text: str


class RunLoad(TypedDict):
    """A load that the run started."""

    name: str
    directory: FilePath
    rate_per_s: float
    begun: UnixTime
    last: SampleData | Nothing


class SampledLoad(RunLoad):
    """The same, with all of its samples."""

    samples: list[SampleData]


class RunData(TypedDict):
    """All of a run but its loads."""

    schema: Literal["esctl.run/v1"]
    run: str
    directory: FilePath
    playbook: RunPlaybook
    cluster: ClusterName
    identity: str
    rehearsal: bool
    inputs: Annotated[dict[str, Any], "By name; a secret is not in it"]
    chosen: Chosen
    state: str
    verdict: RunVerdict | None
    why: str
    clean: bool
    begun: UnixTime
    seconds: Seconds
    sessions: list[RunSession]
    steps: list[RunStep]
    captured: Annotated[dict[str, Any], "By name"]
    guards: list[RunGuard]
    audit: ExactlyOnceFacts | ExactlyOnceDoubts | None
    notes: list[RunNote]
    answers: Annotated[dict[str, str], "What a person answered, by step"]
    left: Annotated[list[str], "What to type for what could not be undone"]


class RunAnswer(RunData):
    """The whole of a run."""

    loads: list[RunLoad]


class SampledRunAnswer(RunData):
    """The same, each load with all of its samples."""

    loads: list[SampledLoad]


class RunTextAnswer(RunAnswer):
    """The whole of a run, and what was asked to be written of it."""

    text: str


class RunFileAnswer(TypedDict):
    """The file that has the report of a run."""

    run: str
    file: FilePath
    bytes: Count


class PlannedResumeAnswer(TypedDict):
    """What would become of each step."""

    run: str
    dry_run: Literal[True]
    steps: Annotated[dict[str, str], "What becomes of each step"]


class PlannedAbortAnswer(TypedDict):
    """The steps that would be undone."""

    run: str
    dry_run: Literal[True]
    steps: list[str]


class PlannedRehearsalAnswer(TypedDict):
    """The cluster that a rehearsal would make."""

    playbook: str
    cluster: ClusterName
    nodes: Count
    dry_run: Literal[True]


class RunRow(TypedDict):
    """A run, and how it ended."""

    run: str
    playbook: str | None
    cluster: ClusterName
    state: str
    verdict: RunVerdict | None
    clean: bool
    rehearsal: bool
    begun: UnixTime


class RunsAnswer(TypedDict):
    """The runs of this machine, the newest first."""

    runs: list[RunRow]


# --- a plan --------------------------------------------------------------------------------------


class OutlookData(TypedDict):
    """What the quorum would be after a step."""

    text: str
    kept: bool


class PlannedStepData(TypedDict):
    """A step as it would be done; `depth` counts the steps around it."""

    id: str
    title: str | None
    kind: ActionKind
    impact: Impact
    depth: Count
    argv: list[str]
    command: str | None
    when: str | None
    pre: list[str]
    expect: list[str]
    confirm: str | None
    undo: str | None
    irreversible: bool
    quorum: OutlookData | None


class FingerprintData(TypedDict):
    """What the plan saw of the cluster."""

    identity: str
    voters: list[NodeId]
    up: list[NodeId]
    leader: NodeId | None


class PlanAnswer(TypedDict):
    """Every step that a run would do."""

    schema: Literal["esctl.plan/v1"]
    playbook: str
    version: str
    title: str
    risk: Risk
    digest: str
    path: str
    max_duration_ms: Count
    inputs: Annotated[dict[str, Any], "By name; a secret is not in it"]
    chosen: Chosen
    unmet: list[str]
    keeps_quorum: bool
    steps: list[PlannedStepData]
    fingerprint: FingerprintData | None


class PlannedRunAnswer(PlanAnswer):
    """The same, of a run with --dry-run."""

    dry_run: Literal[True]


# --- a playbook ----------------------------------------------------------------------------------


class RequiresData(TypedDict):
    """What a playbook wants of a cluster."""

    nodes: Count
    backends: list[str]
    faults: bool


class InputData(TypedDict):
    """Something that is given to a run."""

    name: str
    type: InputType
    default: str | float | bool | None
    choices: list[str]
    help: str


class GuardData(TypedDict):
    """What is watched all along."""

    expr: str
    every_ms: Count
    for_ms: Count
    on_breach: OnBreach


class RetryData(TypedDict):
    """How often a step is tried."""

    attempts: Count
    every_ms: Count


_With = TypedDict("_With", {"with": dict[str, Any]})


class StepData(_With):
    """A step as the file has it, and its command."""

    id: str
    title: str | None
    doc: str | None
    kind: ActionKind
    impact: Impact
    command: str | None
    when: str | None
    pre: list[str]
    expect: list[str]
    capture: dict[str, str]
    timeout_ms: Count
    retry: RetryData
    confirm: str | None
    undo: str | None
    irreversible: bool
    on_fail: OnFail
    steps: "list[StepData]"


class PlaybookAnswer(TypedDict):
    """A playbook."""

    id: str
    version: str
    title: str
    doc: str
    risk: Risk
    max_duration_ms: Count
    requires: RequiresData
    path: str
    digest: str
    inputs: list[InputData]
    guards: list[GuardData]
    steps: list[StepData]


class ReadablePlaybookRow(TypedDict):
    """A playbook in short."""

    id: str
    path: str
    shipped: bool
    readable: Literal[True]
    version: str
    title: str
    risk: Risk
    max_duration_ms: Count
    requires: RequiresData
    inputs: list[str]
    steps: Count


class UnreadablePlaybookRow(TypedDict):
    """A file that is no playbook."""

    id: str
    path: str
    shipped: bool
    readable: Literal[False]


class PlaybooksAnswer(TypedDict):
    """The playbooks that are shipped, and those in ./playbooks."""

    playbooks: list[ReadablePlaybookRow | UnreadablePlaybookRow]


class NewPlaybookAnswer(TypedDict):
    """A playbook that was written, or would be."""

    path: FilePath
    id: str
    text: str
    copy_of: NotRequired[str]
    dry_run: NotRequired[Literal[True]]


class LintedFile(TypedDict):
    """A playbook, and what is wrong with it."""

    path: str
    readable: bool
    errors: Count
    warnings: Count
    findings: list[LintFindingData]


class LintAnswer(TypedDict):
    """The playbooks that were checked."""

    files: list[LintedFile]
