"""Takes the pictures of the documents: the real commands, in a terminal of 90 columns, as SVG.

`make pictures` runs it: it boots three clusters in a state directory of its own and removes them. What a
command leaves on its terminal is what the picture shows; nothing is drawn by hand. The demo's progress bars
are not in it: they go to standard error, which is no terminal there.
"""

import fcntl
import html
import json
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from io import StringIO
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

PICTURES: Final = Path(__file__).resolve().parent / "pictures"
COLUMNS: Final = 90
LINES: Final = 60
FONTS: Final = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"
_FONT_FACE: Final = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)
_PIECE: Final = re.compile(
    r'<text class="(?P<style>[^"]+)" x="(?P<x>[\d.]+)" y="(?P<y>[\d.]+)" textLength="[\d.]+" '
    r'clip-path="(?P<clip>[^"]+)">(?P<text>[^<]*)</text>'
)
_WORDS: Final = re.compile(r"\S+(?:[ \u00a0]\S+)*")
CELL: Final = 12.2
"""The width of a character in the picture; rich takes it for a font of 20 pixels."""
CLUSTER: Final = "flights"


def main() -> int:
    """The program."""
    with tempfile.TemporaryDirectory(prefix="pictures-") as home:
        environment = {
            **os.environ,
            "XDG_STATE_HOME": home,
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
        }
        for name in ("NO_COLOR", "ESCTL_CLUSTER", "ESCTL_OUTPUT"):
            environment.pop(name, None)
        draw("demo", "esctl demo", take("demo", environment, errors=False))
        draw("status", "esctl status", with_a_node_down(environment))
        draw("timeline", "esctl timeline", after_a_partition(environment))
    return 0


def with_a_node_down(environment: dict[str, str]) -> str:
    """The status of three nodes that hold the flights, after a SIGKILL of the leader."""
    try:
        leader = json.loads(run(["cluster", "up", CLUSTER, "-o", "json"], environment))["data"]["leader"]
        run(["produce", str(PICTURES.parents[1] / "examples" / "flights-2013-01.ndjson.gz")], environment)
        run(["node", "kill", str(leader), "--yes"], environment)
        run(["cluster", "wait"], environment)
        return take("status", environment, errors=True)
    finally:
        run(["cluster", "destroy", CLUSTER, "--confirm", CLUSTER], environment)


def after_a_partition(environment: dict[str, str]) -> str:
    """The timeline of three nodes whose leader was cut off, and then another one killed and started again."""
    try:
        run(["cluster", "up", CLUSTER, "--faults"], environment)
        run(["fault", "partition", "isolate-leader", "--lease", "3s"], environment)
        run(["status", "health", "--wait", "20"], environment)
        leader = json.loads(run(["cluster", "wait", "-o", "json"], environment))["data"]["leader"]
        run(["node", "kill", str(leader), "--yes"], environment)
        run(["cluster", "wait"], environment)
        run(["node", "start", str(leader)], environment)
        run(["status", "health", "--wait", "20"], environment)
        return take("timeline", environment, errors=False)
    finally:
        run(["cluster", "destroy", CLUSTER, "--confirm", CLUSTER], environment)


def command(words: list[str]) -> list[str]:
    """The command line of `esctl` in this environment."""
    return [sys.executable, "-m", "esctl.main", *words]


def run(words: list[str], environment: dict[str, str]) -> bytes:
    """What a command printed that is not in the picture; raises when it fails."""
    return subprocess.run(command(words), env=environment, check=True, stdout=subprocess.PIPE).stdout


def take(words: str, environment: dict[str, str], *, errors: bool) -> str:
    """What `esctl WORDS` prints to a terminal, control sequences included; with `errors`, all of it."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    started = subprocess.Popen(
        command(words.split()), stdin=its, stdout=its, stderr=its if errors else None, env=environment
    )
    os.close(its)
    seen = b""
    while piece := _read(ours):
        seen += piece
    os.close(ours)
    if started.wait() != 0:
        raise SystemExit(f"esctl {words} ended with {started.returncode}")
    return seen.decode()


def _read(terminal: int) -> bytes:
    """The next bytes; nothing at the end, which Linux reports as an error."""
    try:
        return os.read(terminal, 65_536)
    except OSError:
        return b""


def draw(name: str, prompt: str, seen: str) -> None:
    """Write `seen`, below the command line that caused it, as docs/pictures/NAME.svg."""
    console = Console(
        record=True, width=COLUMNS, file=StringIO(), color_system="truecolor", force_terminal=True
    )
    console.print(Text.assemble(("$ ", "bright_black"), (prompt, "bold")))
    for line in seen.replace("\r\n", "\n").rstrip("\n").split("\n"):
        text = Text.from_ansi(line)
        for part in text.divide(range(COLUMNS, len(text), COLUMNS)):  # as a terminal folds it
            console.print(part, soft_wrap=True)
    picture = console.export_svg(title="EventStreamCore", unique_id=name)
    # No font is fetched from anywhere: every viewer uses its own, held on the grid.
    picture = _PIECE.sub(_on_the_grid, _FONT_FACE.sub("", picture))
    picture = picture.replace("        font-variant-east-asian: full-width;\n", "")
    picture = picture.replace("font-family: Fira Code, monospace;", f"font-family: {FONTS};")
    PICTURES.mkdir(exist_ok=True)
    (PICTURES / f"{name}.svg").write_text(picture + "\n", encoding="utf-8")
    sys.stdout.write(f"docs/pictures/{name}.svg is written\n")


def _on_the_grid(piece: re.Match[str]) -> str:
    """A piece of a line as its words, each at its own column: fonts differ in width."""
    text = html.unescape(piece["text"])
    drawn = []
    for words in _WORDS.finditer(text):
        x, width = float(piece["x"]) + words.start() * CELL, len(words[0]) * CELL
        drawn.append(
            f'<text class="{piece["style"]}" x="{x:g}" y="{piece["y"]}" textLength="{width:g}" '
            f'lengthAdjust="spacingAndGlyphs" clip-path="{piece["clip"]}">'
            f"{html.escape(words[0], quote=False).replace(chr(0xA0), '&#160;')}</text>"
        )
    return "".join(drawn)


if __name__ == "__main__":
    sys.exit(main())
