"""The options that several measurements share, each with one meaning."""

from pathlib import Path
from typing import Annotated, Final

import typer

LONGEST_MINUTES: Final = 160_000.0
LONGEST_S: Final = 60 * LONGEST_MINUTES
HIGHEST_RATE: Final = 1e9
"""Far beyond what anybody measures; what is beyond that, such as `inf`, is a slip."""

Rate = Annotated[
    float,
    typer.Option(
        "--rate", metavar="N", min=0, max=HIGHEST_RATE,
        help="Send so many events a second; 0 is as fast as it goes",
    ),
]  # fmt: skip
Seconds = Annotated[
    float, typer.Option("--seconds", metavar="S", min=0.1, max=LONGEST_S, help="Measure for so long")
]
Size = Annotated[int, typer.Option("--size", metavar="BYTES", min=1, help="Make events of this size")]
Batch = Annotated[
    int, typer.Option("--batch", metavar="N", min=1, max=1024, help="Send so many events at a time")
]
Window = Annotated[
    int, typer.Option("--window", metavar="N", min=1, max=512, help="Have so many batches under way")
]
Warmup = Annotated[
    float,
    typer.Option("--warmup", metavar="S", min=0, max=LONGEST_S, help="Send for so long before the measuring"),
]
Runs = Annotated[
    int,
    typer.Option(
        "--runs", metavar="N", min=1, max=1000, help="Measure so often; the median and the range count"
    ),
]
Session = Annotated[
    bool, typer.Option("--session", help="Send through a producer session, which remembers without end")
]
Save = Annotated[
    Path | None,
    typer.Option("--save", metavar="FILE", help="Write the result there, for compare and report"),
]
FromNode = Annotated[
    int | None,
    typer.Option("--node", metavar="ID", min=1, help="Read from this node; the leader is the default"),
]
Plot = Annotated[bool, typer.Option("--plot", help="Draw the curves of the run")]
