"""EventBridge: what a rule delivers to its target."""

from contextvars import ContextVar
from typing import Any

from moto.events.models import EventTemplateParser, Rule

from .patch import override

ENVELOPE = ("version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail")

_original_parse = EventTemplateParser.parse


def _parse(input_template: Any, input_paths_map: Any, event: dict) -> Any:
    """Without an input transformer the target receives the event itself.

    https://docs.aws.amazon.com/eventbridge/latest/ref/overiew-event-structure.html
    moto passes it through a template: `account` is lost, and text of the finding that looks like a
    placeholder is replaced.
    """
    if input_template is None:
        return {name: event[name] for name in ENVELOPE if name in event}
    return _original_parse(input_template=input_template, input_paths_map=input_paths_map, event=event)


# The event that a rule is just forwarding to another bus.
_forwarded: ContextVar = ContextVar("forwarded", default=None)


@override(Rule, "send_to_targets")
def _send_to_targets(original: Any, self: Rule, original_event: dict, *args: Any, **kwargs: Any) -> None:
    """A disabled rule matches nothing, and a forwarded event says where it comes from.

    https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_DisableRule.html
    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-cross-account.html: the receiver's rules match the
    sender by `account`. moto puts the receiver's account and Region.
    """
    if self.state == "DISABLED":
        return
    origin = _forwarded.get()
    if origin is not None:
        original_event = {**original_event, **origin}
    kept = {name: original_event[name] for name in ("account", "region", "resources")}
    token = _forwarded.set(kept)
    try:
        original(self, original_event, *args, **kwargs)
    finally:
        _forwarded.reset(token)


def install() -> None:
    """Put the delivery in place."""
    EventTemplateParser.parse = staticmethod(_parse)
