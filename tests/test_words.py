"""Words and turns that have a plainer one: a stranger has to read each of them twice.

Names in files and answers of earlier versions stay: the key `gusts` of a saved storm, the file `savepoint`.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
TOOLKIT: Final = [
    *(ROOT / "esctl").rglob("*.py"),
    *(ROOT / "esctl").rglob("*.json"),
    *(ROOT / "playbooks").glob("*.toml"),
]
DOCUMENTS: Final = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "examples").glob("*.md")]
EVERYTHING: Final = [*TOOLKIT, *DOCUMENTS, *(ROOT / "esnode").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]

OF_THE_TOOLKIT: Final = {
    r"(audit )?trails?": "audit log",
    r"deeds?": "action",
    r"(?<!\")gusts?": "scheduled fault",
    r"weathered": "storm result",
    r"vault": "offline data directory",
    r"shel(f|ved)": "catalog",
    r"severed": "cut",
    r"denials?": "negation",
}
ANYWHERE: Final = {
    "time-outs?": "timeout",
    r"acquaintances?": "peer identity",
    r"custod(y|ians?)": "admin requests",
    r"chronicles?": "role changes",
    r"couriers?": "dispatcher",
    r"allegiances?": "cluster pin",
    r"ends? with (exit )?(code )?\d+": "exits with code N",
    r"somebody who is to help": "support",
    r"savepoints?(?![\"`.]|_(index|loaded|unusable)|,\skeys-|\s{4})": "checkpoint",
    r"keepers?": "checkpointer, watchdog",
    r"at the begin": "at the beginning",
    r"(this|other|rest of the|called by the) rooms?": "package, module",
    r"clusters? that can go": "a cluster that you can destroy",
    r"is a witness for a node|let it in that one of them": "say who confirms what",
    r"(number|name) it so": "name of, number of",
    r"cannot be believed": "cannot be trusted",
    r"begin there": "start time",
}
SHOWN: Final = {
    r"so many (events )?a second": "rate, in events per second",
    r"(measure|wait|send|after|for|last) so (long|often)": "duration, time to wait, number of times",
    r"as fast as it goes": "as fast as possible",
    r"in any case of letters": "upper and lower case are the same",
    r"if not told": "by default",
    r"mend": "fix",
}
"""Turns that are plain enough in a comment, and not where a user reads them."""
EXCEPT: Final = {"CHANGELOG.md"}
"""It says what was, in the words of then."""


def banned_in(text: str, words: dict[str, str]) -> list[str]:
    """Each place that has one of the words, by its line, and what to write."""
    plainer = {
        re.compile(rf"(?<![A-Za-z]){word}(?![A-Za-z])".replace(" ", r"\s+"), re.IGNORECASE): better
        for word, better in words.items()
    }
    return [
        f"{text.count(chr(10), 0, hit.start()) + 1}: {hit[0]!r} -> {better}"
        for word, better in plainer.items()
        for hit in word.finditer(text)
    ]


def found(words: dict[str, str], paths: list[Path]) -> list[str]:
    """The same of files."""
    return [
        f"{path.relative_to(ROOT)}:{line}"
        for path in paths
        if path.name not in EXCEPT
        for line in banned_in(path.read_text(encoding="utf-8"), words)
    ]


def test_the_toolkit_uses_the_terms_of_its_field() -> None:
    assert found(OF_THE_TOOLKIT, [*TOOLKIT, *DOCUMENTS, *(ROOT / "tests" / "esctl").rglob("*.py")]) == []


def test_texts_are_in_words_that_everybody_knows() -> None:
    assert found(ANYWHERE, EVERYTHING) == []


def test_the_help_of_every_command_says_what_an_option_is() -> None:
    pages = [path for path in DOCUMENTS if path.name in ("commands.md", "errors.md", "playbook-reference.md")]
    assert found(SHOWN, [*pages, *(ROOT / "playbooks").glob("*.toml")]) == []


def test_a_banned_turn_is_seen() -> None:
    assert banned_in("well\nThe node ends with 13.", ANYWHERE) == ["2: 'ends with 13' -> exits with code N"]
    assert banned_in("it ends with an error", ANYWHERE) == []


def test_no_two_classes_of_the_toolkit_have_one_name() -> None:
    names = Counter(
        name
        for path in TOOLKIT
        if path.suffix == ".py"
        for name in re.findall(r"^class (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert [name for name, count in names.items() if count > 1] == []
