"""The rules of ports.Launcher, asked of every launcher; and what real processes add to them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil
import pytest

from rejeu.local import process
from rejeu.local.process import ProcessLauncher
from rejeu.ports import ENDED, Job, JobState, Launcher
from rejeu.testing import FakeLauncher

HERE = Path(__file__).parent
PLUGINS = HERE.parents[1] / "plugins"
SECONDS = 20
NAME = "rejeu-replay-clicks"


@dataclass(frozen=True)
class SmallJob:
    """A request for small_job."""

    words: tuple[str, ...]
    job_name: str = NAME
    ready_text: str | None = None
    module: str = "small_job"

    def to_argv(self) -> Sequence[str]:
        return self.words


class Bench(Protocol):
    """A launcher, and what a test needs to bring its jobs where it wants them."""

    @property
    def launcher(self) -> Launcher: ...

    def start(self, name: str = NAME) -> Job:
        """Start a job that runs until it is stopped; return when it runs."""
        ...

    def end(self, code: int) -> Job:
        """Start a job that ends by itself, with `code` and a last line; return it as found after its end."""
        ...


class FakeBench:
    def __init__(self) -> None:
        self.launcher = FakeLauncher()

    def start(self, name: str = NAME) -> Job:
        return self.launcher.start(SmallJob((), name))

    def end(self, code: int) -> Job:
        self.launcher.start(SmallJob(()))
        state = JobState.FAILED if code else JobState.SUCCEEDED
        self.launcher.end(NAME, state, f"exit code {code}: last words" if code else "")
        return _found(self.launcher)


class ProcessBench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._fifos = 0
        self.launcher = ProcessLauncher(folder / "jobs")

    def start(self, name: str = NAME) -> Job:
        return self.run("drained", name=name)

    def run(self, *words: str, name: str = NAME, ready_text: str | None = None) -> Job:
        """Start a job that has done these words and waits."""
        meeting = self.meeting()
        job = self.launcher.start(SmallJob((*words, "meet", str(meeting), "wait"), name, ready_text))
        meeting.read_text(encoding="utf-8")
        return job

    def end(self, code: int) -> Job:
        return self.ended(self.launcher.start(SmallJob(("say", "first words", "say", "last words", "exit", str(code)))))

    def ended(self, job: Job) -> Job:
        """The job as found once its process is gone."""
        psutil.wait_procs(_processes(job), timeout=SECONDS)
        return _found(self.launcher, job.name)

    def meeting(self) -> Path:
        """A place where a job and its test wait for each other."""
        self._fifos += 1
        fifo = self.folder / f"meeting-{self._fifos}"
        os.mkfifo(fifo)
        return fifo

    def clear(self) -> None:
        """End what still runs."""
        for record in (self.folder / "jobs").glob("*.json"):
            self.launcher.stop(record.stem, drain=False)


def _found(launcher: Launcher, name: str = NAME) -> Job:
    job = launcher.find(name)
    assert job is not None
    return job


def _processes(job: Job) -> list[psutil.Process]:
    """The process of a job, and what it started; none once it is gone."""
    try:
        keeper = psutil.Process(int(job.id.partition(".")[0]))
        return [keeper, *keeper.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _lives(member: psutil.Process) -> bool:
    return member.is_running() and member.status() != psutil.STATUS_ZOMBIE


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessBench]:
    monkeypatch.setenv("PYTHONPATH", f"{HERE}{os.pathsep}{PLUGINS}")
    made = ProcessBench(tmp_path)
    yield made
    made.clear()


@pytest.fixture(params=["fake", "process"])
def bench(request: pytest.FixtureRequest) -> Bench:
    if request.param == "fake":
        return FakeBench()
    made: ProcessBench = request.getfixturevalue("processes")
    return made


# Every launcher


def test_a_job_that_was_started_runs_and_is_found(bench: Bench) -> None:
    job = bench.start()
    assert (job.name, job.state) == (NAME, JobState.RUNNING)
    assert _found(bench.launcher) == job


def test_a_job_is_found_by_its_exact_name_alone(bench: Bench) -> None:
    bench.start(f"{NAME}-2")
    for name in (NAME, f"{NAME}-", f"{NAME}-20", NAME.upper()):
        assert bench.launcher.find(name) is None


def test_a_job_that_runs_is_adopted_not_started_again(bench: Bench) -> None:
    job = bench.start()
    assert bench.launcher.start(SmallJob(("exit", "1"))).id == job.id


def test_jobs_of_other_names_run_beside_it(bench: Bench) -> None:
    one, other = bench.start(), bench.start("rejeu-replay-views")
    assert one.id != other.id
    assert {_found(bench.launcher, each.name).state for each in (one, other)} == {JobState.RUNNING}


def test_a_job_that_ended_well_has_succeeded(bench: Bench) -> None:
    assert bench.end(0).state is JobState.SUCCEEDED


def test_a_job_that_ended_badly_has_failed_and_says_why(bench: Bench) -> None:
    job = bench.end(3)
    assert job.state is JobState.FAILED
    assert "exit code 3: " in job.detail
    assert "last words" in job.detail


@pytest.mark.parametrize("code", [0, 3])
def test_a_job_that_ended_is_started_afresh(bench: Bench, code: int) -> None:
    before = bench.end(code)
    after = bench.start()
    assert after.id != before.id
    assert _found(bench.launcher) == after


@pytest.mark.parametrize("drain", [True, False])
def test_a_job_that_was_stopped_has_ended_and_stays_so(bench: Bench, drain: bool) -> None:
    bench.start()
    stopped = bench.launcher.stop(NAME, drain=drain)
    assert stopped is not None
    assert stopped.state in ENDED - {JobState.FAILED}
    assert _found(bench.launcher) == stopped


@pytest.mark.parametrize("code", [0, 3])
def test_stopping_a_job_that_ended_changes_nothing(bench: Bench, code: int) -> None:
    ended = bench.end(code)
    assert bench.launcher.stop(NAME) == ended
    assert _found(bench.launcher) == ended


def test_stopping_one_job_leaves_the_others(bench: Bench) -> None:
    bench.start()
    other = bench.start("rejeu-replay-views")
    bench.launcher.stop(NAME)
    assert _found(bench.launcher, other.name) == other


def test_stopping_a_job_that_never_was_is_nothing(bench: Bench) -> None:
    assert bench.launcher.stop(NAME) is None


# Processes


def test_a_job_is_starting_until_it_has_said_that_it_is_ready(processes: ProcessBench) -> None:
    before, after = processes.meeting(), processes.meeting()
    words = ("meet", str(before), "say", "I am ready now", "meet", str(after), "wait")
    job = processes.launcher.start(SmallJob(words, ready_text="ready now"))
    assert (job.state, _found(processes.launcher).state) == (JobState.STARTING, JobState.STARTING)
    before.read_text(encoding="utf-8")
    after.read_text(encoding="utf-8")
    assert _found(processes.launcher).state is JobState.RUNNING


def test_a_job_that_is_starting_is_adopted_too(processes: ProcessBench) -> None:
    job = processes.run(ready_text="never said")
    assert processes.launcher.start(SmallJob(("exit", "1"))).id == job.id


@pytest.mark.parametrize("code", [1, 2, 5, 130])
def test_the_exit_code_is_the_jobs_own(processes: ProcessBench, code: int) -> None:
    assert processes.end(code).detail.startswith(f"exit code {code}: first words | last words (log ")


def test_arguments_arrive_as_they_are(processes: ProcessBench) -> None:
    odd = "$HOME 'quoted' \"twice\" ; exit 9 é\nsecond line"
    job = processes.ended(processes.launcher.start(SmallJob(("say", odd, "exit", "0"))))
    log = Path(job.detail.removeprefix("log "))
    assert log.read_text(encoding="utf-8") == odd + "\n"


def test_a_module_that_is_not_there_is_a_job_that_failed(processes: ProcessBench) -> None:
    job = processes.ended(processes.launcher.start(SmallJob((), module="no_such_module")))
    assert job.state is JobState.FAILED
    assert "No module named no_such_module" in job.detail


def test_a_drained_job_finishes_what_it_has_in_hand(processes: ProcessBench) -> None:
    processes.run("drained")
    job = processes.launcher.stop(NAME)
    assert job is not None
    assert job.state is JobState.SUCCEEDED
    assert Path(job.detail.removeprefix("log ")).read_text(encoding="utf-8") == "drained\n"


def test_a_job_that_is_not_drained_has_no_say(processes: ProcessBench) -> None:
    members = _processes(processes.run("drained"))
    stopped = processes.launcher.stop(NAME, drain=False)
    assert stopped is not None
    assert stopped.state is JobState.STOPPED
    assert "drained" not in Path(stopped.detail.removeprefix("log ")).read_text(encoding="utf-8")
    assert not any(_lives(member) for member in members)


def test_a_job_that_does_not_listen_is_killed_in_the_end(
    processes: ProcessBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "DRAIN_SECONDS", 0.5)
    members = _processes(processes.run("deaf"))
    stopped = processes.launcher.stop(NAME)
    assert stopped is not None
    assert stopped.state is JobState.STOPPED
    assert not any(_lives(member) for member in members)


def test_a_job_that_was_killed_from_outside_has_failed(processes: ProcessBench) -> None:
    job = processes.run()
    keeper, *own = _processes(job)
    for member in own:
        member.kill()
    psutil.wait_procs([keeper], timeout=SECONDS)
    found = _found(processes.launcher)
    assert (found.state, found.detail.partition(":")[0]) == (JobState.FAILED, "exit code 137")


def test_a_pid_that_is_another_process_by_now_is_not_the_job(processes: ProcessBench) -> None:
    """After a restart of the machine, when nobody was left to write down how the job ended."""
    processes.run()
    processes.launcher.stop(NAME, drain=False)
    [record] = (processes.folder / "jobs").glob("*.json")
    content = json.loads(record.read_text(encoding="utf-8"))
    Path(content["exit_file"]).unlink()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        record.write_text(
            json.dumps(content | {"pid": bystander.pid, "started": content["started"] - 60}), encoding="utf-8"
        )
        stopped = processes.launcher.stop(NAME)
        assert bystander.poll() is None
        bystander.communicate(b"\n")
    assert stopped is not None
    assert (stopped.state, stopped.detail.partition(":")[0]) == (JobState.FAILED, "exit code unknown")
    assert bystander.returncode == 0


def test_a_job_outlives_the_task_that_started_it(processes: ProcessBench) -> None:
    """A task that is killed is killed with its whole process group."""
    meeting = processes.meeting()
    task = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_launcher import SmallJob
from rejeu.local.process import ProcessLauncher
ProcessLauncher(Path(sys.argv[2])).start(SmallJob(("drained", "meet", sys.argv[3], "wait")))
print("started", flush=True)
input()
"""
    command = [sys.executable, "-c", task, str(HERE), str(processes.folder / "jobs"), str(meeting)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "started\n"
        meeting.read_text(encoding="utf-8")
        os.killpg(starter.pid, signal.SIGKILL)
    assert _found(processes.launcher).state is JobState.RUNNING
    stopped = processes.launcher.stop(NAME)
    assert stopped is not None
    assert stopped.state is JobState.SUCCEEDED


def test_another_launcher_of_the_same_folder_knows_the_job(processes: ProcessBench) -> None:
    job = processes.run()
    assert ProcessLauncher(processes.folder / "jobs").find(NAME) == job


def test_starters_at_once_start_one(processes: ProcessBench) -> None:
    def start(_: int) -> str:
        return ProcessLauncher(processes.folder / "jobs").start(SmallJob(("wait",))).id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(start, range(8)))) == 1
    assert len(list((processes.folder / "jobs").glob("*.log"))) == 1


def test_a_record_is_never_seen_half_written(processes: ProcessBench) -> None:
    """Whoever looks while jobs are started again and again sees the one or the other."""
    processes.end(0)
    with ThreadPoolExecutor(2) as pool:
        looks = [pool.submit(processes.launcher.find, NAME) for _ in range(50)]
        processes.end(0)
        assert all(isinstance(look.result(), Job) for look in looks)
