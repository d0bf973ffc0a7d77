"""A watchdog that looks on while nothing is to be relaunched: it decides as the real one does, without Airflow."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Final, Self

from rejeu.errors import NothingToRepairError, StateError
from rejeu.ports import StateStore, Verdict
from rejeu.watchdog.probes.heartbeat import HeartbeatProbe
from rejeu.watchdog.repair import Seen, claim

SILENCE: Final = timedelta(seconds=1)
LOOK_SECONDS: Final = 0.1
AIRFLOW_SECONDS: Final = 1.0
"""From the trigger's event to the task that claims the repair."""
ATTEMPTS: Final = 3


class Watcher:
    """Looks in a thread; `wrong` says what it would have relaunched, which is nothing where all is well."""

    def __init__(self, store: StateStore, stream: str) -> None:
        self.wrong: list[str] = []
        self._store, self._stream = store, stream
        self._probe = self._new_probe()
        self._tries = 1
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(LOOK_SECONDS):
            try:
                verdict = self._probe.check(datetime.now(UTC))
                if verdict.unsure_seconds > 0:
                    self._done.wait(verdict.unsure_seconds)
                elif verdict.signal.needs_relaunch and not self._done.wait(AIRFLOW_SECONDS):
                    self._claim(verdict)
                self._tries = 1
            except StateError:  # it looks again
                self._tries += 1

    def _claim(self, seen: Verdict) -> None:
        """As a task of the watchdog's does: it believes who saw the lease stand still, but after a try that failed."""
        probe = self._new_probe()
        if self._tries == 1:
            probe.lease.believe(frozenset({seen.lease}))
        verdict = probe.check(datetime.now(UTC))
        if verdict.unsure_seconds > 0:
            self._done.wait(verdict.unsure_seconds)
            verdict = probe.check(datetime.now(UTC))
        if not verdict.signal.needs_relaunch or verdict.unsure_seconds > 0:
            return
        try:
            claim(self._store, self._stream, probe, Seen(verdict, datetime.now(UTC), "chaos"), ATTEMPTS)
        except NothingToRepairError:
            return
        self.wrong.append(f"a false relaunch: {verdict.signal}: {verdict.detail}")

    def _new_probe(self) -> HeartbeatProbe:
        return HeartbeatProbe(self._store, self._stream, SILENCE, SILENCE)
