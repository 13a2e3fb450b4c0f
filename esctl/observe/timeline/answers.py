"""What `esctl timeline` answers under `-o json`: the types of its data. Imported by nothing at run time."""

from typing import TypedDict

from esctl.observe.timeline.story import StoryData
from esctl.ui.values import ClusterName, Count, FilePath


class TimelineAnswer(StoryData):
    """What happened to a cluster, from the logs of all its nodes."""

    cluster: ClusterName
    notes: list[str]


class MermaidAnswer(TimelineAnswer):
    """The same, and its diagram."""

    mermaid: str


class TimelineFileAnswer(TypedDict):
    """The file that a timeline was written to."""

    file: FilePath
    bytes: Count
    happenings: Count
