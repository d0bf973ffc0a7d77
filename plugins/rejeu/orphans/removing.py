"""What belongs to an orphan, and the end of it: its jobs are stopped first, its documents go last.

Whoever is interrupted on the way finds the rest by them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from rejeu.errors import StateConflictError, StateError
from rejeu.gcp.folders import count_files, remove_files, subfolders
from rejeu.gcp.topics import existing_subscriptions, remove_subscription
from rejeu.orphans.finding import Orphan, requested_subscriptions
from rejeu.ports import ENDED, Job, Launcher, StateStore
from rejeu.spec.model import Reconcile
from rejeu.spec.names import reconcile_job, replay_job, stream_job
from rejeu.state.documents import SideDocument, owner_of
from rejeu.state.launch_lock import hold_launch_lock
from rejeu.state.lease import read_state
from rejeu.state.live_record import forget_subscription, read_record, spec_of
from rejeu.state.stream import mark_unwanted
from rejeu.target import KEPT, Left, Target

if TYPE_CHECKING:
    from google.cloud.pubsub_v1 import SubscriberClient

TRIES: Final = 5
"""How often a document is removed that somebody else writes."""


@dataclass(frozen=True)
class Belongings:
    """What there is of an orphan."""

    jobs: tuple[Job, ...]
    """Those that have not ended: replays, the twin first, and Beam's."""
    subscriptions: tuple[str, ...]
    folders: tuple[tuple[str, int], ...]
    """What jobs left as files, with their number."""
    documents: tuple[str, ...]


@dataclass(frozen=True)
class Remover:
    """Looks for what belongs to an orphan where the target has it, and removes it."""

    target: Target
    store: StateStore
    replays: Launcher
    jobs: Launcher
    subscriber: SubscriberClient
    sleep: Callable[[float], None]

    def look(self, orphan: Orphan) -> Belongings:
        """What there is. Raises RejeuError where one of those who know cannot be asked."""
        found = [self.replays.find(name) for name in _replays(orphan)]
        found += [self.jobs.find(name) for name in _jobs(orphan)]
        counted = ((folder, count_files(folder)) for folder in self._folders(orphan.stream))
        return Belongings(
            jobs=tuple(job for job in found if job is not None and job.state not in ENDED),
            subscriptions=tuple(existing_subscriptions(self.subscriber, self._subscriptions(orphan))),
            folders=tuple((folder, count) for folder, count in counted if count),
            documents=orphan.documents,
        )

    def remove(self, orphan: Orphan) -> None:
        """Stop and remove all that belongs to it. Its topic and its tables stay. Raises RejeuError.

        Nobody else starts or stops its replays meanwhile. Rows that are published are written first.
        """
        who = f"rejeu orphans/{socket.gethostname()}:{os.getpid()}"
        lock_document = SideDocument.LAUNCH_LOCK.of(orphan.stream)
        with hold_launch_lock(self.store, orphan.stream, who, self.sleep):
            for name in orphan.documents:
                if "." not in name:
                    mark_unwanted(self.store, name)
            self._stop(orphan)
            for subscription in self._subscriptions(orphan):
                remove_subscription(self.subscriber, subscription)
            for folder in self._folders(orphan.stream):
                remove_files(folder)
            for name in self.store.names():
                if owner_of(name) == orphan.stream and name != lock_document:
                    self._remove_document(name)
        self._remove_document(lock_document)

    def remove_old(self, folder: str) -> None:
        """Remove what lies in the folder for long. Raises RequestError."""
        remove_files(folder, datetime.now(UTC) - KEPT)

    def old_folders(self, known: Collection[str]) -> list[tuple[str, int]]:
        """Folders of streams that nobody knows, each with how many files in it are old. Raises RequestError."""
        before = datetime.now(UTC) - KEPT
        roots = [self.target.left_by(kind) for kind in Left]
        foreign = [f"{root}/{name}" for root in roots for name in subfolders(root) if name not in known]
        counted = ((folder, count_files(folder, before)) for folder in foreign)
        return [(folder, count) for folder, count in counted if count]

    def forget_subscription(self, stream: str, subscription: str) -> None:
        """Remove a subscription that a stream had before, and what is known of it. Raises RejeuError."""
        remove_subscription(self.subscriber, subscription)
        forget_subscription(self.store, stream, subscription)

    def _stop(self, orphan: Orphan) -> None:
        """Stop the replays, the twin first, or it would take over; then the streaming job, once it has read all."""
        for name in _replays(orphan):
            self.replays.stop(name)
        job = self.jobs.find(stream_job(orphan.stream))
        if job is not None and job.state not in ENDED:
            self.sleep(self._settle(orphan.stream).total_seconds())
        for name in _jobs(orphan):
            self.jobs.stop(name)

    def _settle(self, stream: str) -> timedelta:
        """How long a published row may take to its table."""
        with suppress(StateError):
            if (record := read_record(self.store, stream)) is not None:
                return spec_of(record).reconcile.settle
        return Reconcile().settle

    def _subscriptions(self, orphan: Orphan) -> list[str]:
        """The full names of all that were made for it; those of a stream without a record follow from its request."""
        record = read_record(self.store, orphan.stream)
        if record is not None:
            return list(record.subscriptions)
        state = read_state(self.store, orphan.stream) if orphan.stream in orphan.documents else None
        return requested_subscriptions(state, self.target)

    def _folders(self, stream: str) -> list[str]:
        return [f"{self.target.left_by(kind)}/{stream}" for kind in Left]

    def _remove_document(self, name: str) -> None:
        for _ in range(TRIES):
            found = self.store.load(name)
            if found is None:
                return
            with suppress(StateConflictError):  # the last word of a replay that has just ended
                self.store.remove(name, found.version)
                return
        raise StateConflictError(f"{name}: somebody writes it again and again: look what still runs of that stream")


def _replays(orphan: Orphan) -> Iterable[str]:
    """The names of its replays' jobs, and of its shards', the twin of each first."""
    shards = [name.removeprefix(orphan.stream) for name in orphan.documents if "." not in name]
    for shard in dict.fromkeys(["", *shards]):
        if shard or orphan.has_twin:
            yield replay_job(orphan.stream, shard, twin=True)
        yield replay_job(orphan.stream, shard)


def _jobs(orphan: Orphan) -> Iterable[str]:
    return stream_job(orphan.stream), reconcile_job(orphan.stream)
