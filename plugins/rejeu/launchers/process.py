"""A launcher of local processes: each outlives the task that started it, and is found again by its exact name."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rejeu import extensions
from rejeu.errors import LaunchError
from rejeu.ports import ENDED, Job, JobRequest, JobState
from rejeu.target import KEPT, LauncherKind, Target

log = logging.getLogger(__name__)

DRAIN_SECONDS = 30.0
READY_BYTES = 1_000_000
LAST_BYTES = 4_000
LEFT_BEHIND = frozenset({".log", ".exit", ".draining"})

FilePath = Annotated[str, Field(pattern=r"^[^\x00]+$")]

# The shell waits for the job and writes its exit code to a file, whole or not at all. It ignores the signals that the
# job handles itself.
KEEPER = 'trap : TERM INT; "$@"; echo $? > "$0.partial"; mv "$0.partial" "$0"'


class Record(BaseModel):
    """What is remembered of a job, as JSON in the launcher's folder; what only a newer Rejeu writes there is ignored.

    `keeper` is the process id of the shell that waits for the job, `started` when it was created. The job's own process
    is the keeper's child: the keeper has yet to start it when this is written.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    name: str
    id: str
    keeper: int = Field(gt=0, lt=2**31)
    started: float
    log: FilePath
    exit_file: FilePath
    ready_text: str | None
    argv: tuple[str, ...] | None = None
    """What the job was started with; records of earlier versions do not say."""


class ProcessLauncher:
    """Runs `python -m <module> <argv>` in a session of its own, logging to a file.

    `through` is a command that each job is started through, such as `nice -n 10`, and which it takes the place of.
    """

    def __init__(self, folder: Path, through: Sequence[str] = ()) -> None:
        self._folder = folder.absolute()
        self._through = list(through)

    def start(self, request: JobRequest) -> Job:
        with self._locked(request.job_name):
            running = self.find(request.job_name)
            if running is not None and running.state not in ENDED:
                return running
            return self._spawn(request)

    def find(self, name: str) -> Job | None:
        record = self._read(name)
        return None if record is None else self._describe(record)

    def find_active(self, names: Collection[str]) -> dict[str, Job]:
        """A job whose record cannot be read is left out, and said: whoever starts it is told why it cannot be."""
        active = {}
        for name in names:
            try:
                job = self.find(name)
            except LaunchError as error:
                log.warning("%s", error)
                continue
            if job is not None and job.state not in ENDED:
                active[name] = job
        return active

    def stop(self, name: str, *, drain: bool = True) -> Job | None:
        record = self._read(name)
        if record is None:
            return None
        process = _living(record)
        if process is not None:
            _end(record, process, drain)
            if self._describe(record).state is JobState.FAILED:
                Path(record.exit_file).write_text(JobState.STOPPED, encoding="utf-8")
        return self._describe(record)

    def _forget_old(self) -> None:
        """Remove what jobs left that ended long ago, but what the newest job of each name left."""
        longest = time.time() - KEPT.total_seconds()
        old = [path for path in self._folder.iterdir() if path.suffix in LEFT_BEHIND and _changed_at(path) < longest]
        if not old:
            return
        records, unread = [], []
        for path in self._folder.glob("*.json"):
            try:
                records.append(self._read(path.stem))
            except LaunchError:  # whoever asks for that job is told; until then nothing of it goes
                unread.append(f"{path.stem}.")
        newest = {path for each in records if each is not None for path in _files_of(each)}
        for path in old:
            if path not in newest and not path.name.startswith(tuple(unread)):
                path.unlink(missing_ok=True)

    def _spawn(self, request: JobRequest) -> Job:
        self._forget_old()
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        log = self._folder / f"{request.job_name}.{stamp}.log"
        exit_file = self._folder / f"{request.job_name}.{stamp}.exit"
        command = [*self._through, sys.executable, "-m", request.module, *request.to_argv()]
        try:
            with log.open("wb") as output:
                process = subprocess.Popen(
                    ["/bin/sh", "-c", KEEPER, str(exit_file), *command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env=os.environ | extensions.environment(),
                )
        except OSError as error:
            raise LaunchError(f"{request.job_name} could not be started: {error}") from error
        record = Record(
            name=request.job_name,
            id=f"{process.pid}.{stamp}",
            keeper=process.pid,
            started=psutil.Process(process.pid).create_time(),
            log=str(log),
            exit_file=str(exit_file),
            ready_text=request.ready_text,
            argv=tuple(request.to_argv()),
        )
        partial = self._path(request.job_name).with_suffix(".partial")
        partial.write_text(record.model_dump_json(), encoding="utf-8")
        partial.replace(self._path(request.job_name))
        return self._describe(record)

    def _describe(self, record: Record) -> Job:
        state, detail = _state_of(record)
        return Job(record.name, record.id, state, detail, argv=record.argv)

    def _read(self, name: str) -> Record | None:
        file = self._path(name)
        try:
            return Record.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LaunchError(
                f"{name}: its record {file} cannot be read: {error.strerror}: make it readable"
            ) from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise LaunchError(
                f"{name}: its record {file} is broken ({where or 'as a whole'}: {first['msg']}): end the job's "
                "process, if it still runs, and remove that file"
            ) from None

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """One starter at a time for a name, across processes; the first start makes the folder, a look does not."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            rule = f"{name} was not started: the folder {self._folder} cannot be made ({error.strerror})"
            raise LaunchError(f"{rule}; set REJEU_HOME to a folder that can be written") from None
        with (self._folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _state_of(record: Record) -> tuple[JobState, str]:
    """Where the job is, and what a person should know of it."""
    process = _living(record)
    if process is not None:
        ready = record.ready_text is None or record.ready_text in _text(record.log, first=READY_BYTES)
        state = JobState.RUNNING if ready else JobState.STARTING
        if _asked_to_end(record).exists():
            state = JobState.DRAINING
        return state, f"{_own_pid(process)}log {record.log}"
    code = _text(record.exit_file).strip()
    if code in ("0", JobState.STOPPED):
        return JobState.SUCCEEDED if code == "0" else JobState.STOPPED, f"log {record.log}"
    last = " | ".join(_text(record.log, last=LAST_BYTES).strip().splitlines()[-3:])
    return JobState.FAILED, f"exit code {code or 'unknown'}: {last} (log {record.log})"


def _living(record: Record) -> psutil.Process | None:
    """The keeper of a job that runs; pids are reused, so its time of creation must match."""
    try:
        process = psutil.Process(record.keeper)
        # If the task that started the job still runs, it is the parent and must reap it.
        if process.status() == psutil.STATUS_ZOMBIE:
            if process.ppid() == os.getpid():
                os.waitpid(record.keeper, os.WNOHANG)
            return None
        return process if abs(process.create_time() - record.started) < 1 else None
    except (psutil.NoSuchProcess, ChildProcessError):  # another thread has reaped it
        return None


def _end(record: Record, keeper: psutil.Process, drain: bool) -> None:
    """Have the job end, and return once it has."""
    own = keeper.children(recursive=True) or [keeper]
    asked = _asked_to_end(record)
    # A second SIGTERM could break off what the first one began.
    gentle = [] if asked.exists() else own
    # Before the signal: a starter must not adopt what is about to end.
    asked.touch()
    # The keeper ends by itself once it has reaped the job: killing it too could leave zombies.
    for number, told in ((signal.SIGTERM, gentle), (signal.SIGKILL, own)) if drain else ((signal.SIGKILL, own),):
        _signal(told, number)
        psutil.wait_procs([keeper], timeout=DRAIN_SECONDS)
    # The keeper's process group also has children that it had not yet forked when we looked.
    with suppress(ProcessLookupError):
        os.killpg(record.keeper, signal.SIGKILL)


def _asked_to_end(record: Record) -> Path:
    """The file that says so of a job that still lives."""
    return Path(record.exit_file).with_suffix(".draining")


def _files_of(record: Record) -> set[Path]:
    """What the job leaves behind."""
    return {Path(record.log), Path(record.exit_file), _asked_to_end(record)}


def _changed_at(path: Path) -> float:
    """When the file was written last, in seconds; a file that somebody removes meanwhile is none to remove."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _own_pid(keeper: psutil.Process) -> str:
    """The process id of the job itself, for people; nothing in the moment before the keeper has started it."""
    with suppress(psutil.NoSuchProcess):
        for job in keeper.children():
            return f"pid {job.pid}, "
    return ""


def _signal(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def _text(path: str, *, last: int | None = None, first: int = -1) -> str:
    """The file's first or last bytes as text, else all of it: a log may be long, and is read often."""
    try:
        with Path(path).open("rb") as file:
            if last is not None:
                file.seek(max(0, file.seek(0, os.SEEK_END) - last))
            return file.read(first).decode(errors="replace")
    except FileNotFoundError:
        return ""


def _make(target: Target, environment: Mapping[str, str]) -> ProcessLauncher:
    return ProcessLauncher(target.home / "jobs")


LAUNCHER = LauncherKind(_make, starts_streams=True)
