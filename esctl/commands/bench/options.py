"""The options that several measurements share, each with one meaning."""

from pathlib import Path
from typing import Annotated, Final

import typer

from esctl.cli.durationoption import duration_option

LONGEST_S: Final = 60 * 160_000.0
"""111 days."""
HIGHEST_RATE: Final = 1e9
"""Far beyond what anybody measures; what is beyond that, such as `inf`, is a slip."""

Rate = Annotated[
    float,
    typer.Option(
        "--rate", metavar="N", min=0, max=HIGHEST_RATE,
        help="Rate of the load, in events per second; 0 is as fast as possible",
    ),
]  # fmt: skip
Seconds = Annotated[
    float, duration_option("--duration", "Duration of the measurement", low_s=0.1, high_s=LONGEST_S)
]
Size = Annotated[int, typer.Option("--size", metavar="BYTES", min=1, help="Size of an event")]
Batch = Annotated[int, typer.Option("--batch", metavar="N", min=1, max=1024, help="Events per batch")]
Window = Annotated[
    int, typer.Option("--window", metavar="N", min=1, max=512, help="Batches in flight at a time")
]
Warmup = Annotated[
    float,
    duration_option("--warmup", "Time to send events before the measurement begins", high_s=LONGEST_S),
]
Runs = Annotated[
    int,
    typer.Option(
        "--runs",
        metavar="N",
        min=1,
        max=1000,
        help="Number of measurements; the result is their median and range",
    ),
]
Session = Annotated[
    bool,
    typer.Option("--session", help="Send through a producer session, whose deduplication has no time limit"),
]
Save = Annotated[
    Path | None,
    typer.Option(
        "--save", metavar="FILE", help="File to write the result to, for bench compare and bench report"
    ),
]
FromNode = Annotated[
    int | None,
    typer.Option("--node", metavar="ID", min=1, help="Node to read from; by default, the leader"),
]
Plot = Annotated[bool, typer.Option("--plot", help="Plot the measured values over time")]
