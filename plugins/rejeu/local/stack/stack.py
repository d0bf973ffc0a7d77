"""The local stack: everything that the real job needs on one machine, started, watched and ended as one.

`parts` says what runs, `settings` where and how, and supervisord keeps it running.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from rejeu.errors import StackError
from rejeu.local.processes.interrupts import interruptible, uninterruptible
from rejeu.local.processes.leftovers import end, end_leftovers, marked
from rejeu.local.processes.logs import last_lines, tail
from rejeu.local.processes.supervision import Condition, Supervisor
from rejeu.local.stack.health import answers_grpc
from rejeu.local.stack.parts import AIRFLOW_GROUP, ONCE, PARTS, SERVER_GROUP, Part, parts_of
from rejeu.local.stack.settings import USER, StackSettings, stack_id, write_private, write_private_text

START_SECONDS: Final = 300
"""How long the next part may take, on a machine that is busy with other things; one that dies is not waited for."""
POLL_SECONDS: Final = 0.2
JOB_DRAIN_SECONDS: Final = 3.0
LEFTOVERS_SECONDS: Final = 1.0
ERROR_LINES: Final = 15
ALIVE: Final = frozenset({"STARTING", "RUNNING"})

Progress = Callable[[str], None]


class Login(NamedTuple):
    """Who may use Airflow's pages."""

    user: str
    password: str


class PartStatus(NamedTuple):
    """One part: `state` is supervisord's word in small letters, or `external` for somebody else's server."""

    part: str
    state: str
    pid: int | None
    address: str


def _silent(_text: str) -> None:
    pass


class Stack:
    """The stack of one home. Its processes belong to no terminal: they run until `down`, from whichever process."""

    def __init__(self, dags: Path, home: Path) -> None:
        self._dags = dags.resolve()
        self._home = home.resolve()
        self._id = stack_id(self._home)
        self._saved = self._home / "stack.json"
        self._supervisor = Supervisor(self._home / "run", self._home / "logs", self._id)

    def up(self, progress: Progress = _silent, parts: Iterable[str] = PARTS) -> None:
        """Start these parts and wait until each is well; says so where they are already.

        Raises StackError where a part dies, is not well in time, or has no port. Whatever ends this early (an
        error, Ctrl-C, SIGTERM) ends the stack first.
        """
        names = list(parts)
        with uninterruptible(), self._alone():
            if self._is_up(names):
                _tell(progress, f"the stack of {self._home} is up already")
                return
            try:
                with interruptible():
                    self._start(names, progress)
            except BaseException:
                self.down(progress)
                raise

    def down(self, progress: Progress = _silent) -> None:
        """End every process of this stack: Airflow, then the jobs that DAGs started, then the servers.

        Safe at any time and however often. Raises StackError if a process outlives SIGKILL.
        """
        with uninterruptible():
            self._saved.unlink(missing_ok=True)
            if self._supervisor.conditions():
                _tell(progress, "stopping Airflow")
                self._supervisor.stop(AIRFLOW_GROUP)
                kept = {process.pid for process in self._supervisor.family()}
                jobs = [process for process in marked(self._id) if process.pid not in kept]
                if jobs:
                    _tell(progress, f"stopping {len(jobs)} processes of jobs")
                    end(jobs, JOB_DRAIN_SECONDS)
                _tell(progress, "stopping the servers")
                self._supervisor.stop(SERVER_GROUP)
                self._supervisor.shutdown()
            end_leftovers(self._id, LEFTOVERS_SECONDS)
            _tell(progress, "nothing of the stack runs")

    def status(self) -> list[PartStatus]:
        """Every part and how it is, whether the stack is up or not."""
        settings, conditions = StackSettings.read(self._saved), self._supervisor.conditions()
        addresses = {part.name: part.address for part in parts_of(settings, PARTS)} if settings else {}
        external = settings is not None and not settings.own_pubsub
        return [
            PartStatus("pubsub", "external", None, settings.pubsub)
            if name == "pubsub" and settings is not None and external
            else _status(name, conditions.get(name), addresses.get(name, ""))
            for name in PARTS
        ]

    def env(self) -> dict[str, str]:
        """The whole environment for a process that works with the stack and outlives it.

        Raises StackError if the stack is not up.
        """
        return self._settings().environment()

    def variables(self) -> dict[str, str]:
        """What the stack adds to such an environment. Raises StackError if it is not up."""
        return self._settings().variables()

    @property
    def ui_url(self) -> str:
        """Where Airflow's pages are. Raises StackError if the stack is not up."""
        return self._settings().ui_url

    @property
    def login(self) -> Login:
        """Raises StackError if the stack is not up."""
        return Login(USER, self._settings().keys["password"])

    def logs(self, *, follow: bool = True) -> Iterator[str]:
        """The last lines of every part, then what they add, each with the part's name in front."""
        return tail({name: self._supervisor.log_file(name) for name in PARTS}, follow=follow)

    def _settings(self) -> StackSettings:
        settings = StackSettings.read(self._saved)
        if settings is None or not self._supervisor.conditions():
            raise StackError(f"no stack of {self._home} is up: it must run for this; start it with `rejeu up`")
        return settings

    def _is_up(self, names: list[str]) -> bool:
        settings, conditions = StackSettings.read(self._saved), self._supervisor.conditions()
        return settings is not None and all(
            part.name in conditions and conditions[part.name].state == "RUNNING" for part in parts_of(settings, names)
        )

    def _start(self, names: list[str], progress: Progress) -> None:
        end_leftovers(self._id, LEFTOVERS_SECONDS)
        settings = StackSettings.choose(self._dags, self._home)
        _require_given_pubsub(settings)
        parts = parts_of(settings, names)
        _furnish(settings)
        self._supervisor.start([part.program for part in parts], Path.cwd(), settings.environment_of_parts())
        self._bring_up(parts, progress)
        settings.save(self._saved)

    def _bring_up(self, parts: list[Part], progress: Progress) -> None:
        """Start each part once those it needs are well, and return when all are."""
        begun, waiting, starting = time.monotonic(), {part.name: part for part in parts}, dict[str, int | None]()
        moved = begun
        while waiting:
            for part in waiting.values():
                if part.name not in starting and not waiting.keys() & set(part.after):
                    self._supervisor.launch(part.program.group, part.name)
                    starting[part.name], moved = None, time.monotonic()
            running = self._running(starting)
            for name in [name for name in running if name in waiting and waiting[name].healthy()]:
                del waiting[name]
                moved = time.monotonic()
                _tell(progress, f"{name} is well after {time.monotonic() - begun:.1f} s")
            if time.monotonic() - moved > START_SECONDS:
                raise self._failure(next(iter(waiting)), f"is not well {START_SECONDS} s after the one before")
            time.sleep(POLL_SECONDS)

    def _running(self, starting: dict[str, int | None]) -> list[str]:
        """Those that run; one that ended while it started is an error even if supervisord has restarted it."""
        conditions = self._supervisor.conditions()
        if not conditions:
            raise self._failure("supervisord", "does not answer")
        for name, pid in starting.items():
            now = conditions[name]
            starting[name] = pid or now.pid
            done = name in ONCE and now.state == "EXITED" and now.exit_status == 0
            if not done and (now.state not in ALIVE or now.pid != starting[name]):
                raise self._failure(name, f"died while the stack started ({now.state.lower()})")
        return [name for name in starting if conditions[name].state != "STARTING"]

    def _failure(self, name: str, what: str) -> StackError:
        log = self._supervisor.log_file(name)
        tail_of_log = "\n".join(f"  {line}" for line in last_lines(log, ERROR_LINES))
        return StackError(f"{name} {what}; the end of {log} should say why:\n{tail_of_log}")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One `up` at a time for a home; the lock ends with its process."""
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._home / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                message = f"another `rejeu up` is at work in {self._home}: one at a time; wait for it or end it"
                raise StackError(message) from None
            yield


def _require_given_pubsub(settings: StackSettings) -> None:
    if not settings.own_pubsub and not answers_grpc(settings.pubsub)():
        raise StackError(
            f"PUBSUB_EMULATOR_HOST is {settings.pubsub!r}: a Pub/Sub emulator must answer there; "
            "start it, or unset the variable to have one of the stack's own"
        )


def _furnish(settings: StackSettings) -> None:
    """Make what the programs expect to find."""
    for folder in (
        settings.airflow_home,
        settings.storage,
        Path(settings.home, "gcloud"),
        Path(settings.home, "bigquery"),
    ):
        folder.mkdir(parents=True, exist_ok=True)
    settings.demo_data.unlink(missing_ok=True)  # another day may have come
    write_private(settings.passwords, {USER: settings.keys["password"]})
    write_private_text(settings.database_password, settings.keys["database"])
    # Every setting comes from the environment; without a file Airflow writes one of 120 kB, from four processes.
    (settings.airflow_home / "airflow.cfg").touch(mode=0o600)


def _status(name: str, condition: Condition | None, address: str) -> PartStatus:
    if condition is None:
        return PartStatus(name, "stopped", None, address)
    return PartStatus(name, condition.state.lower(), condition.pid, address)


def _tell(progress: Progress, text: str) -> None:
    """Whatever becomes of the output, what was begun is finished: rich answers a closed pipe with SystemExit(1)."""
    with suppress(OSError):
        try:
            progress(text)
        except SystemExit as left:
            if left.code != 1:  # a signal's
                raise
