"""What is told to whoever started this: one JSON object a line on standard output."""

import json
import sys
import time
from typing import Any, Callable


def line(**parts: Any) -> None:
    sys.stdout.write(json.dumps(parts, default=str) + "\n")
    sys.stdout.flush()


def say(what: str) -> None:
    """What is being done."""
    line(say=what)


def note(what: str) -> None:
    """What is not as on AWS."""
    line(note=what)


def figure(what: str, value: str) -> None:
    """What was measured."""
    line(figure=what, value=value)


def shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 600 else text[:600] + "…"


def same(topic: str, what: str, expected: Any, found: Any) -> bool:
    """A fact: `found` has to be `expected`."""
    ok = expected == found
    line(fact={"topic": topic, "what": what, "ok": ok, "expected": shown(expected), "found": shown(found)})
    return ok


def holds(topic: str, what: str, ok: Any, found: Any) -> bool:
    """A fact that holds or not; `found` says how it is."""
    line(fact={"topic": topic, "what": what, "ok": bool(ok), "expected": "so", "found": shown(found)})
    return bool(ok)


def wait(what: Callable[[], Any], seconds: float = 60) -> Any:
    """The first true value of `what`, or its last one when the time is up."""
    until = time.monotonic() + seconds
    while True:
        value = what()
        if value or time.monotonic() > until:
            return value
        time.sleep(0.2)
