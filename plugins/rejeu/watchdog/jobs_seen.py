"""What the launcher says of all streams' jobs: asked apart, in one question for all, so that nobody waits for it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from threading import Condition, Thread
from typing import Final, TypeVar

from rejeu.clocks import elapsed
from rejeu.ports import Launcher

log = logging.getLogger(__name__)

JOB_LOOK_SECONDS: Final = 2.0
"""How often the launcher is asked, at most."""
FAILED_REST_SECONDS: Final = 10.0
"""How long a launcher is left alone that could not answer."""
LATE_SECONDS: Final = 10.0
"""After how long it is said that no answer comes."""

Answer = TypeVar("Answer")


class JobsSeen:
    """Which jobs are gone, as the launcher last said; a thread asks it for as long as somebody wants to know."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._changed = Condition()
        self._wanted: dict[str, float] = {}
        """Until when somebody wants to know of each job."""
        self._since: dict[str, float] = {}
        """Since when they do: what was asked before says nothing of it."""
        self._gone: frozenset[str] = frozenset()
        self._asker: Thread | None = None
        self._asked_at: float | None = None
        """When the question was asked that waits for its answer."""

    def is_gone(self, name: str, for_seconds: float) -> bool:
        """Whether the job is gone, as far as is known; it is asked for so many seconds more. Never waits."""
        with self._changed:
            now = elapsed()
            self._since.setdefault(name, now)
            self._wanted[name] = now + for_seconds
            if self._asker is None:
                self._asker = Thread(target=self._ask_on, name="rejeu-jobs", daemon=True)
                self._asker.start()
            if self._asked_at is not None and now - self._asked_at > LATE_SECONDS:
                self._say_late(now - self._asked_at)
            return name in self._gone

    def forget(self, name: str) -> None:
        """Nobody wants to know of this job: what was said of it may be wrong by the time that somebody does."""
        with self._changed:
            self._forget(name)

    def _forget(self, name: str) -> None:
        self._wanted.pop(name, None)
        self._since.pop(name, None)
        self._gone -= {name}

    def _say_late(self, seconds: float) -> None:
        log.warning(
            "the launcher has not said for %.0f s which of %d streaming jobs run: one that ends is not seen until it "
            "does; signals are watched all the same",
            seconds,
            len(self._wanted),
        )
        self._asked_at = None  # once for each question

    def _ask_on(self) -> None:
        while names := self._names():
            rest = self._ask(names)
            with self._changed:
                self._asked_at = None
                self._changed.wait(rest)

    def _names(self) -> list[str]:
        """The jobs that somebody still wants to know of; where there are none, this thread ends."""
        with self._changed:
            now = elapsed()
            for name in [name for name, until in self._wanted.items() if until < now]:
                self._forget(name)
            self._asked_at = now
            if not self._wanted:
                self._asker = self._asked_at = None
            return list(self._wanted)

    def _ask(self, names: list[str]) -> float:
        """Ask once; returns how long to leave the launcher alone then."""
        asked_at = elapsed()
        try:
            active = self._launcher.find_active(names)
        except Exception as error:  # a thread that raises is gone for good, and with it the watch of the jobs
            log.warning("%d streaming jobs cannot be looked for: %s", len(names), error)
            return FAILED_REST_SECONDS
        with self._changed:
            told = {name for name in names if self._since.get(name, asked_at + 1) <= asked_at}
            self._gone = (self._gone - told) | {name for name in told if name not in active}
        return max([JOB_LOOK_SECONDS, *(job.rest_seconds for job in active.values())])


def asked_apart(question: Callable[[], Answer]) -> Future[Answer]:
    """The answer, once it is there; the thread that awaits it keeps nobody, not even this process, from ending."""
    answer: Future[Answer] = Future()

    def ask() -> None:
        try:
            answer.set_result(question())
        except Exception as error:  # whoever awaits the answer gets it
            answer.set_exception(error)

    Thread(target=ask, name="rejeu-asks", daemon=True).start()
    return answer
