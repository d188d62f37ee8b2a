"""SNS: how many have subscribed."""

from typing import Any

from moto.sns.models import Topic


def _confirmed(self: Any) -> int:
    """A queue of the same account is subscribed at once, with nothing to confirm. moto leaves the number at 0.

    https://docs.aws.amazon.com/sns/latest/api/API_GetTopicAttributes.html
    """
    return len(self.sns_backend._get_topic_subscriptions(self))


def install() -> None:
    """Put the count in place of the attribute that moto never changes (its name is misspelt there)."""
    Topic.subscriptions_confimed = property(_confirmed, lambda self, value: None)
