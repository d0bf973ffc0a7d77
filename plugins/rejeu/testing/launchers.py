"""The rules that every launcher keeps, as classes of tests for a launcher's author; and the small job that they start.

class TestMine(LauncherContract):
    name = "mine"

    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[LauncherRig]: ...

`ProcessesContract` asks more of launchers whose jobs are real processes in the test, `ServerContract` of those that ask
a server.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Protocol

from rejeu.errors import LaunchError
from rejeu.ports import ENDED, Job, JobState, Launcher
from rejeu.testing import small_job

NAME: Final = "rejeu-replay-clicks"
OTHER: Final = "rejeu-replay-views"
LONG_NAMES: Final = [f"{NAME}-{'x' * 60}-{end}" for end in ("0-of-4", "1-of-4", "standby")]


@dataclass(frozen=True)
class SmallJob:
    """A request for `rejeu.testing.small_job`, whose docstring says which words there are."""

    words: tuple[str, ...]
    job_name: str = NAME
    ready_text: str | None = None
    module: str = small_job.__name__

    def to_argv(self) -> Sequence[str]:
        return self.words


class Meetings:
    """Places where a job and its test wait for each other: the job says `meet PATH`, and the test reads the path.

    What it reads is the job's process id.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def new(self) -> Path:
        self._count += 1
        fifo = self._folder / f"meeting-{self._count}"
        os.mkfifo(fifo)
        return fifo


def found(launcher: Launcher, name: str = NAME) -> Job:
    """The job of this name, which there is."""
    job = launcher.find(name)
    assert job is not None
    return job


class LauncherRig(Protocol):
    """A launcher, and what a test needs to bring its jobs where it wants them; nothing runs there yet."""

    @property
    def launcher(self) -> Launcher: ...

    def another(self) -> Launcher:
        """A launcher of the same place, as another worker has it."""
        ...

    def start(self, name: str = NAME) -> Job:
        """Start a job that runs until it is stopped, and answers a drain by ending well; return it once it runs."""
        ...

    def end(self, code: int) -> Job:
        """Start a job that ends by itself, with `code` and a last line; return it as found after its end."""
        ...

    def made(self) -> int:
        """How many jobs were ever made here."""
        ...


class ProcessesRig(LauncherRig, Protocol):
    """A rig whose jobs are real processes, wherever the launcher believes them to be.

    The job that ends by itself prints `first words` and `last words`, a line each.
    """

    def run(self, *words: str, name: str = NAME, ready_text: str | None = None) -> Job:
        """Start a small job that does these words and waits; return it once it waits."""
        ...

    def said(self, name: str = NAME) -> str:
        """All that the newest job of this name has printed."""
        ...

    def lives(self, name: str = NAME) -> bool:
        """Whether a process of the newest job of this name still runs."""
        ...


class ServerRig(LauncherRig, Protocol):
    """A rig whose launcher asks a server."""

    def asked(self) -> int:
        """How many questions and orders the server has had."""
        ...

    def go_away(self) -> None:
        """Let the server no longer answer."""
        ...


class LauncherContract:
    """Subclass it, give `name`, and a fixture `rig` that ends what still runs after the test."""

    name: ClassVar[str]
    """The name that targets call the launcher by."""

    def test_a_job_that_was_started_runs_and_is_found(self, rig: LauncherRig) -> None:
        job = rig.start()
        assert (job.name, job.state) == (NAME, JobState.RUNNING)
        assert _facts(found(rig.launcher)) == _facts(job)

    def test_another_launcher_of_the_same_place_knows_the_job(self, rig: LauncherRig) -> None:
        job = rig.start()
        assert _facts(found(rig.another())) == _facts(job)

    def test_a_job_is_found_by_its_exact_name_alone(self, rig: LauncherRig) -> None:
        rig.start(f"{NAME}-2")
        for name in (NAME, f"{NAME}-", f"{NAME}-20", NAME.upper()):
            assert rig.launcher.find(name) is None

    def test_names_that_a_cloud_finds_too_long_stay_apart(self, rig: LauncherRig) -> None:
        first, second, never = LONG_NAMES
        jobs = [rig.start(first), rig.start(second)]
        assert [job.name for job in jobs] == [first, second]
        assert [_facts(found(rig.launcher, job.name)) for job in jobs] == [_facts(job) for job in jobs]
        assert rig.launcher.find(never) is None

    def test_a_job_that_runs_is_adopted_not_started_again(self, rig: LauncherRig) -> None:
        job = rig.start()
        assert _facts(rig.launcher.start(SmallJob(("exit", "1")))) == _facts(job)
        assert rig.made() == 1

    def test_starters_at_once_start_one(self, rig: LauncherRig) -> None:
        assert len({job.id for job in self._start_at_once(rig)}) == 1
        assert rig.made() == 1

    def test_starters_at_once_start_one_afresh(self, rig: LauncherRig) -> None:
        before = rig.end(3)
        assert len({job.id for job in self._start_at_once(rig)} - {before.id}) == 1
        assert rig.made() == 2

    def test_jobs_of_other_names_run_beside_it(self, rig: LauncherRig) -> None:
        one, other = rig.start(), rig.start(OTHER)
        assert one.id != other.id
        assert {found(rig.launcher, each.name).state for each in (one, other)} == {JobState.RUNNING}

    def test_many_jobs_are_looked_for_at_once_and_those_that_run_are_found(self, rig: LauncherRig) -> None:
        first, second, never = LONG_NAMES
        jobs = {name: rig.start(name) for name in (NAME, first, second)}
        for launcher in (rig.launcher, rig.another()):
            active = launcher.find_active([NAME, first, never])
            assert {name: (job.name, job.id) for name, job in active.items()} == {
                name: (name, jobs[name].id) for name in (NAME, first)
            }
            assert not ENDED & {job.state for job in active.values()}
            assert launcher.find_active([]) == {}

    def test_of_many_jobs_those_that_have_ended_are_left_out(self, rig: LauncherRig) -> None:
        rig.start(OTHER)
        rig.end(3)
        assert list(rig.launcher.find_active([NAME, OTHER])) == [OTHER]
        self._start_after(rig, found(rig.launcher))
        assert {*rig.launcher.find_active([NAME, OTHER])} == {NAME, OTHER}
        rig.launcher.stop(OTHER)
        assert list(rig.launcher.find_active([NAME, OTHER])) == [NAME]

    def test_a_job_that_ended_well_has_succeeded(self, rig: LauncherRig) -> None:
        assert rig.end(0).state is JobState.SUCCEEDED

    def test_a_job_that_ended_badly_has_failed_and_says_why(self, rig: LauncherRig) -> None:
        job = rig.end(3)
        assert job.state is JobState.FAILED
        assert "exit code 3: " in job.detail

    def test_a_job_that_ended_well_is_started_afresh(self, rig: LauncherRig) -> None:
        self._start_after(rig, rig.end(0))

    def test_a_job_that_ended_badly_is_started_afresh(self, rig: LauncherRig) -> None:
        self._start_after(rig, rig.end(3))

    def test_a_job_that_was_drained_has_ended_and_stays_so(self, rig: LauncherRig) -> None:
        self._stop(rig, drain=True)

    def test_a_job_that_was_stopped_has_ended_and_stays_so(self, rig: LauncherRig) -> None:
        self._stop(rig, drain=False)

    def test_a_job_that_was_drained_is_started_afresh(self, rig: LauncherRig) -> None:
        self._start_after(rig, self._stop(rig, drain=True))

    def test_a_job_that_was_stopped_is_started_afresh(self, rig: LauncherRig) -> None:
        self._start_after(rig, self._stop(rig, drain=False))

    def test_stopping_a_job_that_ended_well_changes_nothing(self, rig: LauncherRig) -> None:
        self._stop_ended(rig, 0)

    def test_stopping_a_job_that_ended_badly_changes_nothing(self, rig: LauncherRig) -> None:
        self._stop_ended(rig, 3)

    def test_stopping_one_job_leaves_the_others(self, rig: LauncherRig) -> None:
        rig.start()
        other = rig.start(OTHER)
        rig.launcher.stop(NAME)
        assert _facts(found(rig.launcher, other.name)) == _facts(other)

    def test_stopping_a_job_that_never_was_is_nothing(self, rig: LauncherRig) -> None:
        assert rig.launcher.stop(NAME) is None

    def _start_at_once(self, rig: LauncherRig) -> list[Job]:
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda _: rig.another().start(SmallJob(("wait",))), range(4)))

    def _start_after(self, rig: LauncherRig, before: Job) -> None:
        after = rig.start()
        assert after.id != before.id
        assert _facts(found(rig.launcher)) == _facts(after)

    def _stop(self, rig: LauncherRig, *, drain: bool) -> Job:
        job = rig.start()
        stopped = rig.launcher.stop(NAME, drain=drain)
        assert stopped is not None
        assert stopped.id == job.id
        assert stopped.state in ENDED - {JobState.FAILED}
        assert found(rig.another()) == stopped
        return stopped

    def _stop_ended(self, rig: LauncherRig, code: int) -> None:
        ended = rig.end(code)
        assert rig.launcher.stop(NAME) == ended
        assert found(rig.launcher) == ended


class ProcessesContract(LauncherContract):
    """For launchers whose jobs are real processes in the test: give a ProcessesRig."""

    def test_a_job_is_starting_until_it_has_said_that_it_is_ready(self, rig: ProcessesRig) -> None:
        rig.run("say", "I am ready", ready_text="I am ready now")
        assert found(rig.another()).state is JobState.STARTING
        rig.launcher.stop(NAME, drain=False)
        rig.run("say", "I am ready now", ready_text="ready now")
        assert found(rig.another()).state is JobState.RUNNING

    def test_a_job_that_is_starting_is_adopted_too(self, rig: ProcessesRig) -> None:
        job = rig.run(ready_text="never said")
        assert rig.launcher.start(SmallJob(("exit", "1"))).id == job.id

    def test_the_exit_code_is_the_jobs_own(self, rig: ProcessesRig) -> None:
        for code in (1, 2, 5, 130):
            assert rig.end(code).detail.startswith(f"exit code {code}: first words | last words (")

    def test_arguments_arrive_as_they_are(self, rig: ProcessesRig) -> None:
        odd = "$HOME $(HOME) 'quoted' \"twice\" ; exit 9 é\nsecond line"
        rig.run("say", odd)
        assert rig.said() == odd + "\n"

    def test_a_job_says_what_it_was_started_with(self, rig: ProcessesRig) -> None:
        rig.run("say", "$HOME $(HOME) 'quoted' é\nsecond line")
        assert (found(rig.another()).argv or ())[:2] == ("say", "$HOME $(HOME) 'quoted' é\nsecond line")

    def test_a_drained_job_finishes_what_it_has_in_hand(self, rig: ProcessesRig) -> None:
        rig.run("drained")
        rig.launcher.stop(NAME)
        assert rig.said() == "drained\n"
        assert not rig.lives()

    def test_a_job_that_drains_is_awaited_and_never_adopted(self, rig: ProcessesRig, tmp_path: Path) -> None:
        folder = tmp_path / "drain"
        folder.mkdir()
        meetings = Meetings(folder)
        drains, may_end = meetings.new(), meetings.new()
        job = rig.run("slow", str(drains), str(may_end), "at last")
        with ThreadPoolExecutor(2) as pool:
            stops = [pool.submit(rig.another().stop, NAME)]
            drains.read_text(encoding="utf-8")
            stops.append(pool.submit(rig.another().stop, NAME))
            for seen in (found(rig.another()), rig.launcher.start(SmallJob(("wait",)))):
                assert _facts(seen) == (NAME, job.id, JobState.DRAINING)
            assert rig.made() == 1
            # For both, so that it blocks nobody where the job is gone already.
            place = os.open(may_end, os.O_RDWR)
            ends = [stop.result() for stop in stops]
            os.close(place)
        assert "at last" in rig.said()
        assert [end is not None and end.state in ENDED - {JobState.FAILED} for end in ends] == [True, True]
        self._start_after(rig, found(rig.launcher))

    def test_a_job_that_does_not_listen_is_ended_where_it_is_not_drained(self, rig: ProcessesRig) -> None:
        rig.run("deaf")
        stopped = rig.launcher.stop(NAME, drain=False)
        assert stopped is not None
        assert stopped.state is JobState.STOPPED
        assert not rig.lives()


class ServerContract(LauncherContract):
    """For launchers that ask a server: give a ServerRig."""

    def test_a_server_that_is_away_is_a_launch_error_that_says_what_to_do(self, rig: ServerRig) -> None:
        job = rig.start()
        rig.go_away()
        uses: list[Callable[[Launcher], object]] = [
            lambda launcher: launcher.start(SmallJob(())),
            lambda launcher: launcher.find(job.name),
            lambda launcher: launcher.stop(job.name),
        ]
        for launcher in (rig.launcher, rig.another()):
            for use in uses:
                assert re.match(rf"{NAME} cannot be managed by .*: .*; \w+", _refusal(use, launcher))

    def test_a_place_is_asked_once_for_many_jobs(self, rig: ServerRig) -> None:
        names = [rig.start(f"{NAME}-{number}").name for number in range(4)]
        before = rig.asked()
        assert {*rig.launcher.find_active(names)} == {*names}
        # Of a list that comes in pages each is a question, and some places list a job's parts apart.
        assert rig.asked() - before < len(names)
        rig.go_away()
        refusal = _refusal(lambda launcher: launcher.find_active(names), rig.launcher)
        assert re.match(r"the jobs cannot be managed by .*: .*; \w+", refusal)


def _facts(job: Job) -> tuple[str, str, JobState]:
    """What a program goes by; the detail is for a person to read, and may know more later."""
    return job.name, job.id, job.state


def _refusal(use: Callable[[Launcher], object], launcher: Launcher) -> str:
    """The LaunchError that this use of it ends with."""
    try:
        answer = use(launcher)
    except LaunchError as error:
        return str(error)
    raise AssertionError(f"it answers {answer!r}, though nobody answers it")
