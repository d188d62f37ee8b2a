"""EventBridge: what a rule delivers to its target."""

from contextvars import ContextVar
from typing import Any

from moto.events.models import UNDEFINED, EventPattern, EventTemplateParser, Rule

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


@override(EventPattern, "matches_event")
def _matches_event(original: Any, self: EventPattern, event: dict) -> bool:
    """A pattern for an object matches a list of objects when it matches one of them.

    https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-cwe-all-findings.html
    moto looks into objects only, so no pattern ever finds anything in a list of findings.
    """
    return not self._pattern or _matches(self, event, self._pattern)


def _matches(self: EventPattern, value: Any, pattern: dict) -> bool:
    if isinstance(value, list):
        return any(_matches(self, item, pattern) for item in value)
    fields = value if isinstance(value, dict) else {}

    def holds(key: str, rule: Any) -> bool:
        if key == "$or":
            return any(_matches(self, value, one) for one in rule)
        found = fields.get(key, UNDEFINED)
        return _matches(self, found, rule) if isinstance(rule, dict) else self._does_item_match_filters(found, rule)

    return all(holds(key, rule) for key, rule in pattern.items())


def install() -> None:
    """Put the delivery in place."""
    EventTemplateParser.parse = staticmethod(_parse)
