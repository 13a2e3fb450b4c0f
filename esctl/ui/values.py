"""The values that many answers have: what a number or a text of `-o json` may be.

They are types for the type checker, and what the JSON Schemas say of a value beyond its type: of what an
`Annotated` adds, a text describes the value, and a pair is a keyword of JSON Schema and what it is set to.
`docs/make_schemas.py` reads that; at run time nothing does. Used by every module that builds an answer.
"""

from typing import Annotated, Literal

NodeId = Annotated[int, ("minimum", 1)]
Count = Annotated[int, ("minimum", 0)]
Seconds = Annotated[float, ("minimum", 0), "In seconds"]
Milliseconds = Annotated[float, ("minimum", 0), "In milliseconds"]
KeyExpiry = Annotated[int, ("minimum", -1), "In milliseconds of log time; -1: no time ends it"]
UnixTime = Annotated[float, "Seconds since 1970"]
ClusterName = Annotated[str, ("pattern", "^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")]
Address = Annotated[str, "host:port"]
FilePath = Annotated[str, ("minLength", 1), "A path"]
ErrorCode = Annotated[str, ("pattern", "^ES[0-9]{4}$")]
Verdict = Literal["passed", "failed", "inconclusive"]
BackendName = Literal["process", "netns"]
