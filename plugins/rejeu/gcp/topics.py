"""Makes sure that a stream's topic and subscriptions are there, as its spec wants them.

What exists is compared with what is wanted: what can be mended is mended, what cannot is refused. Every function may
be called again and again; one question is enough where all is well.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from google.api_core.exceptions import AlreadyExists, NotFound
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient
from google.pubsub_v1.types import Subscription

from rejeu.errors import RequestError
from rejeu.gcp.errors import asking_google
from rejeu.spec.model import StreamSpec
from rejeu.spec.probes import PROBES
from rejeu.target import Target

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 60.0
ACK_DEADLINE_SECONDS = 20
"""Messages that a streaming job had not acknowledged when it died come again after this; writing takes 2 s."""
RETENTION = timedelta(days=7)
"""As long as Pub/Sub keeps messages by default; a stopped streaming job leaves them unread."""
TAP_RETENTION = timedelta(minutes=10)
"""The shortest that Pub/Sub offers: older messages are of no use to a tap."""
TAP_EXPIRATION = timedelta(days=7)
"""Pub/Sub deletes a tap that nobody reads for so long."""
DELETED_TOPIC: Final = "_deleted-topic_"
"""What Pub/Sub calls the topic of a subscription whose own was deleted, for ever: one made again is another topic."""
TAKES_AWAY: Final = {
    "push_config": "it pushes its messages elsewhere",
    "bigquery_config": "it writes its messages into a table of BigQuery",
    "cloud_storage_config": "it writes its messages into Cloud Storage",
}
"""What a subscription may have been given that leaves nothing to pull."""


@dataclass(frozen=True)
class _Wanted:
    """A subscription as a stream wants it: what cannot be changed later, and what can."""

    name: str
    topic: str
    ordered: bool = False
    ack_deadline: int | None = None
    retention: timedelta = RETENTION
    expiration: timedelta | None = None

    def to_api(self) -> dict[str, Any]:
        """The request that makes it."""
        made: dict[str, Any] = {"name": self.name, "topic": self.topic, "message_retention_duration": self.retention}
        if self.ordered:
            made["enable_message_ordering"] = True
        if self.ack_deadline is not None:
            made["ack_deadline_seconds"] = self.ack_deadline
        if self.expiration is not None:
            made["expiration_policy"] = {"ttl": self.expiration}
        return made

    def changes(self, found: Subscription) -> dict[str, Any]:
        """What has to be changed in the one that was found. Whoever had messages kept for longer had a reason."""
        wanted: dict[str, Any] = {}
        # The library hands it over as a timedelta, whatever its types say.
        kept: Any = found.message_retention_duration
        if self.ack_deadline not in (None, found.ack_deadline_seconds):
            wanted["ack_deadline_seconds"] = self.ack_deadline
        if kept < self.retention:
            wanted["message_retention_duration"] = self.retention
        return wanted

    def refusal(self, found: Subscription) -> str | None:
        """Why the one that was found cannot serve the stream, where no update of it would help."""
        if found.topic != self.topic:
            return f"it is of the topic {found.topic}, and must be of {self.topic}"
        if self.ordered and not found.enable_message_ordering:
            return "it keeps no order, and replay.ordering_key asks for one"
        if found.filter:
            return f"its filter {found.filter!r} drops messages in silence"
        return next((why for field, why in TAKES_AWAY.items() if _is_set(found, field)), None)


def ensure_topic(
    publisher: PublisherClient, subscriber: SubscriberClient, spec: StreamSpec, target: Target
) -> str | None:
    """Make the topic and the streaming job's subscription where they are missing, and mend what differs.

    A subscription that was cut off from its topic is made anew. What it held, and what was published meanwhile, no
    streaming job gets any more: the answer says so in words, for a person; it is None where no row can be missing.

    Raises RequestError where what exists cannot serve the stream, or Pub/Sub does not do what it is asked.
    """
    wanted = _of_the_job(spec, target)
    with _asking(spec, wanted.name):
        found = _find(subscriber, wanted.name)
        if found is None or _is_cut_off(found):
            # Where a subscription has its topic, that topic is there.
            _create_topic(publisher, spec, wanted.topic)
        if not _ensure(subscriber, spec, wanted, found):
            return None
    return (
        f"{wanted.name} was cut off from its topic, which had been deleted, and was made anew: rows that were "
        f"acknowledged after that, or were still unread, are missing until {spec.stream}.reconcile has run"
    )


def ensure_tap(subscriber: SubscriberClient, spec: StreamSpec, target: Target) -> None:
    """Make the watchdog's own subscription for the probe `tap` where it is missing, and mend what differs."""
    wanted = _of_the_tap(spec, target)
    with _asking(spec, wanted.name):
        _ensure(subscriber, spec, wanted, _find(subscriber, wanted.name))


def look_at_subscriptions(subscriber: SubscriberClient, spec: StreamSpec, target: Target) -> Iterator[str]:
    """What is there of them, and what `live` does about it, in words; nothing is made or changed here.

    Raises RequestError where one cannot serve the stream, or Pub/Sub cannot be asked.
    """
    wanted = [_of_the_job(spec, target)]
    if any(PROBES[name].needs_tap for name in spec.watchdog.probe):
        wanted.append(_of_the_tap(spec, target))
    for each in wanted:
        with _asking(spec, each.name):
            found = _find(subscriber, each.name)
        if found is None:
            yield f"`live` makes {each.name}"
        elif _is_cut_off(found):
            yield f"{each.name} is cut off from its topic, which was deleted: `live` makes it anew; rows may be missing"
        else:
            _refuse(spec, each, found)
            changes = ", ".join(each.changes(found))
            yield f"{each.name} is there" + (f", and `live` mends its {changes}" if changes else "")


def _of_the_job(spec: StreamSpec, target: Target) -> _Wanted:
    """The streaming job's subscription."""
    return _Wanted(
        name=target.subscription(spec.subscription),
        topic=target.topic(spec.live.topic),
        ordered=bool(spec.ordering_key),
        ack_deadline=ACK_DEADLINE_SECONDS,
    )


def _of_the_tap(spec: StreamSpec, target: Target) -> _Wanted:
    """The watchdog's."""
    return _Wanted(
        name=target.subscription(spec.tap),
        topic=target.topic(spec.live.topic),
        retention=TAP_RETENTION,
        expiration=TAP_EXPIRATION,
    )


def _refuse(spec: StreamSpec, wanted: _Wanted, found: Subscription) -> None:
    """Raises RequestError where the subscription cannot serve the stream."""
    if refusal := wanted.refusal(found):
        raise RequestError(
            f"{spec.stream}: subscription {wanted.name} exists, but {refusal}, and Pub/Sub does not change that. Run "
            f"{spec.stream}.stop, let what it holds be read, delete it (`gcloud pubsub subscriptions delete "
            f"{wanted.name}`), and run {spec.stream}.live, which makes it anew"
        )


def existing_subscriptions(subscriber: SubscriberClient, names: Iterable[str]) -> list[str]:
    """Those of these full names that are there. Raises RequestError where Pub/Sub does not say."""
    with _asking_about("subscriptions cannot be looked for"):
        return [name for name in names if _find(subscriber, name) is not None]


def remove_subscription(subscriber: SubscriberClient, name: str) -> None:
    """Delete the subscription of this full name, with what it holds, if it is there. Raises RequestError."""
    with _asking_about(f"subscription {name} cannot be removed"), suppress(NotFound):
        subscriber.delete_subscription(subscription=name, timeout=TIMEOUT_SECONDS)


def _ensure(subscriber: SubscriberClient, spec: StreamSpec, wanted: _Wanted, found: Subscription | None) -> bool:
    """Let the subscription be as it is wanted; whether it had been cut off from its topic."""
    if found is not None and _is_cut_off(found):
        with suppress(NotFound):  # somebody else makes it anew
            subscriber.delete_subscription(subscription=wanted.name, timeout=TIMEOUT_SECONDS)
        log.warning("%s: %s was cut off from its topic: it is made anew", spec.stream, wanted.name)
        _create(subscriber, spec, wanted)
        return True
    if found is None:
        _create(subscriber, spec, wanted)
        return False
    _refuse(spec, wanted, found)
    if changes := wanted.changes(found):
        update = {"subscription": {"name": wanted.name, **changes}, "update_mask": {"paths": [*changes]}}
        subscriber.update_subscription(request=update, timeout=TIMEOUT_SECONDS)
        log.warning("%s: %s had another %s: mended", spec.stream, wanted.name, ", ".join(changes))
    return False


def _find(subscriber: SubscriberClient, name: str) -> Subscription | None:
    try:
        found: Subscription = subscriber.get_subscription(subscription=name, timeout=TIMEOUT_SECONDS)
    except NotFound:
        return None
    return found


def _create_topic(publisher: PublisherClient, spec: StreamSpec, topic: str) -> None:
    try:
        publisher.create_topic(name=topic, timeout=TIMEOUT_SECONDS)
        log.info("%s: created %s", spec.stream, topic)
    except AlreadyExists:
        pass


def _create(subscriber: SubscriberClient, spec: StreamSpec, wanted: _Wanted) -> None:
    try:
        subscriber.create_subscription(request=wanted.to_api(), timeout=TIMEOUT_SECONDS)
        log.info("%s: created %s", spec.stream, wanted.name)
    except AlreadyExists:
        pass


def _is_cut_off(found: Subscription) -> bool:
    return found.topic == DELETED_TOPIC or found.detached


def _is_set(found: Subscription, field: str) -> bool:
    """Whether the field says anything: Pub/Sub sends an empty `push_config` for a subscription that is pulled."""
    value = getattr(found, field)
    return bool(value) and value != type(value)()


def _asking(spec: StreamSpec, name: str) -> AbstractContextManager[None]:
    return _asking_about(f"{spec.stream}: topic and subscription {name} cannot be made sure of")


def _asking_about(what: str) -> AbstractContextManager[None]:
    return asking_google(
        RequestError,
        what,
        "look at what Pub/Sub says of it, then do it again",
        forbidden="grant roles/pubsub.editor to the account that asks",
    )
