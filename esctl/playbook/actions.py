"""Does what a step says: a command of `esctl`, a question to a person, a request, or nothing.

Says how that ended and what came back, and whether it is good enough is for the step's expectations. Every
action has a timeout. Never retries, never prints. Called by `stepper.py` and `undo.py`.
"""

import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, Final, Protocol

import trio

from esctl.errors import FaultNotFound, NotConfirmed
from esctl.exits import Exit
from esctl.playbook.execution import MOST_OUTPUT, Executor, Reply
from esctl.playbook.prepared import PreparedAction
from esctl.playbook.schema import Action, ActionKind
from esctl.ui.duration import milliseconds
from esctl.ui.formatting import duration

REACHABLE: Final = ("http://", "https://")


class Person(Protocol):
    """Who can be asked."""

    async def confirm(self, step: str, question: str) -> None:
        """Return when the answer is yes; raises `NotConfirmed`, also where nobody is there."""

    async def choose(self, step: str, question: str, choices: Sequence[str]) -> str:
        """One of the choices, or any text where there are none; raises `NotConfirmed` without an answer."""


@dataclass(frozen=True, slots=True)
class Done:
    """How an action ended. `why` is empty when it did what it should."""

    why: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    captured: Mapping[str, Any] = field(default_factory=dict)
    codes: frozenset[str] = frozenset()
    """Of the errors that a command answered with."""


@dataclass(slots=True)
class Actor:
    """What actions are done with."""

    executor: Executor
    person: Person
    note: Callable[[str, str], None]
    """Shows a person the text of a step."""

    async def do(self, step: str, prepared: PreparedAction, timeout_s: float) -> Done:
        """Do it, within the time."""
        given = prepared.action.arguments
        match prepared.action.kind:
            case _ if prepared.commands:
                return await self._commands(prepared, timeout_s)
            case ActionKind.WAIT:
                if "for" in given:
                    await trio.sleep(milliseconds(str(given["for"])) / 1000)
            case ActionKind.NOTE:
                self.note(step, str(given["text"]))
            case ActionKind.APPROVE:
                return await self._asked(step, prepared.action, None)
            case ActionKind.ASK:
                return await self._asked(
                    step, prepared.action, [str(one) for one in given.get("choices", ())]
                )
            case ActionKind.HTTP:
                return await _http(given, timeout_s)
            case _:
                pass  # check and assert do nothing: their expectations are all there is
        return Done()

    async def _commands(self, prepared: PreparedAction, timeout_s: float) -> Done:
        deadline = trio.current_time() + timeout_s
        reply = Reply(Exit.OK)
        for words in prepared.commands:
            reply = await self.executor.run(words, max(0.1, deadline - trio.current_time()))
            if prepared.action.kind is ActionKind.HEAL and reply.codes == {FaultNotFound.code}:
                reply = Reply(Exit.OK, reply.data)  # its lease was over before: it is gone, as it should be
            if not reply.ok:
                break
        data = {**reply.data, "exit": reply.exit}
        if prepared.faults:
            data["id"] = prepared.faults[0]
        return Done("" if reply.ok else reply.why, data, codes=frozenset(reply.codes))

    async def _asked(self, step: str, action: Action, choices: Sequence[str] | None) -> Done:
        question = str(action.arguments["question"])
        try:
            if choices is None:
                await self.person.confirm(step, question)
                return Done()
            answer = await self.person.choose(step, question, choices)
        except NotConfirmed as error:
            return Done(str(error))
        return Done(data={"answer": answer}, captured={str(action.arguments.get("name", step)): answer})


async def _http(given: Mapping[str, Any], timeout_s: float) -> Done:
    url, wanted = str(given["url"]), int(given.get("status", 200))
    if not url.startswith(REACHABLE):
        return Done(f"{url} is no address of the web")
    body = given.get("body")
    request = urllib.request.Request(  # noqa: S310  # http and https only, checked above
        url,
        data=None if body is None else str(body).encode(),
        headers={str(name): str(value) for name, value in given.get("headers", {}).items()},
        method=str(given.get("method", "GET")),
    )
    with trio.move_on_after(timeout_s):
        try:
            status, text = await trio.to_thread.run_sync(_fetch, request, timeout_s, abandon_on_cancel=True)
        except (ValueError, HTTPException) as error:
            # Its text may show a header, and with it a secret in a form in which nobody finds it.
            why = f"{url} cannot be asked, or gives no answer of HTTP: {type(error).__name__}"
            return Done(why, {"exit": int(Exit.UNREACHABLE)})
        except OSError as error:
            return Done(f"{url}: {error}", {"exit": int(Exit.UNREACHABLE)})
        why = "" if status == wanted else f"{url} answers {status}, not {wanted}"
        return Done(why, {"status": status, "body": text, "exit": int(Exit.OK if not why else Exit.ERROR)})
    return Done(f"{url} gives no answer within {duration(timeout_s)}", {"exit": int(Exit.TIMEOUT)})


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer like any other: what is asked is what was written down."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """None ends it."""


def _fetch(request: urllib.request.Request, timeout_s: float) -> tuple[int, str]:
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            return answer.status, answer.read(MOST_OUTPUT).decode(errors="replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(MOST_OUTPUT).decode(errors="replace")
