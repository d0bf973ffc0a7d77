"""What real processes of this machine add to the rules of ports.Launcher."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from rejeu.errors import LaunchError
from rejeu.launchers import process
from rejeu.ports import Job, JobState
from rejeu.testing.launchers import NAME, OTHER, SmallJob, found
from tests.launchers.rigs.process import ProcessRig
from tests.launchers.rigs.rig import SECONDS, Build
from tests.paths import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture
def rig(build: Build) -> ProcessRig:
    made = build(ProcessRig)
    assert isinstance(made, ProcessRig)
    return made


def _lives(member: psutil.Process) -> bool:
    return member.is_running() and member.status() != psutil.STATUS_ZOMBIE


def test_a_job_that_has_not_spoken_is_starting_when_it_is_started(rig: ProcessRig) -> None:
    meeting = rig.meetings.new()
    job = rig.launcher.start(SmallJob(("meet", str(meeting), "wait"), ready_text="ready"))
    assert (job.state, found(rig.launcher).state) == (JobState.STARTING, JobState.STARTING)
    meeting.read_text(encoding="utf-8")


def test_a_module_that_is_not_there_is_a_job_that_failed(rig: ProcessRig) -> None:
    job = rig.ended(rig.launcher.start(SmallJob((), module="no_such_module")))
    assert job.state is JobState.FAILED
    assert "No module named no_such_module" in job.detail


def test_a_drained_job_that_ends_well_has_succeeded(rig: ProcessRig) -> None:
    rig.start()
    job = rig.launcher.stop(NAME)
    assert job is not None
    assert job.state is JobState.SUCCEEDED
    assert Path(job.detail.removeprefix("log ")).read_text(encoding="utf-8") == "drained\n"


@pytest.mark.parametrize("drain", [True, False])
def test_what_a_keeper_had_not_yet_forked_ends_with_it(
    rig: ProcessRig, monkeypatch: pytest.MonkeyPatch, drain: bool
) -> None:
    members = rig.processes(rig.start())
    monkeypatch.setattr(psutil.Process, "children", lambda *_, **__: [])
    monkeypatch.setattr(process, "DRAIN_SECONDS", 0.1)
    rig.launcher.stop(NAME, drain=drain)
    _, alive = psutil.wait_procs(members, timeout=SECONDS)
    assert len(members) > 1
    assert [each for each in alive if _lives(each)] == []


def test_a_job_can_be_started_through_a_command_that_it_takes_the_place_of(rig: ProcessRig) -> None:
    meeting = rig.meetings.new()
    launcher = process.ProcessLauncher(rig.folder, ("nice", "-n", "3"))
    launcher.start(SmallJob(("drained", "meet", str(meeting), "wait")))
    assert psutil.Process(int(meeting.read_text(encoding="utf-8"))).nice() == min(psutil.Process().nice() + 3, 19)
    stopped = rig.launcher.stop(NAME)
    assert stopped is not None
    assert (stopped.state, rig.said()) == (JobState.SUCCEEDED, "drained\n")


def test_a_job_that_is_not_drained_has_no_say(rig: ProcessRig) -> None:
    members = rig.processes(rig.start())
    stopped = rig.launcher.stop(NAME, drain=False)
    assert stopped is not None
    assert stopped.state is JobState.STOPPED
    assert "drained" not in rig.said()
    assert not any(_lives(member) for member in members)


def test_a_job_that_does_not_listen_is_killed_in_the_end(rig: ProcessRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "DRAIN_SECONDS", 0.5)
    members = rig.processes(rig.run("deaf"))
    stopped = rig.launcher.stop(NAME)
    assert stopped is not None
    assert stopped.state is JobState.STOPPED
    assert not any(_lives(member) for member in members)


def test_a_look_leaves_nothing_behind(tmp_path: Path) -> None:
    launcher = process.ProcessLauncher(tmp_path / "home" / "jobs")
    assert (launcher.find(NAME), launcher.find_active([NAME]), launcher.stop(NAME)) == (None, {}, None)
    assert [*tmp_path.iterdir()] == []


def test_what_old_jobs_left_goes_but_for_the_newest_of_each_name(rig: ProcessRig) -> None:
    rig.end(3)
    first = set(rig.folder.glob("*.log")) | set(rig.folder.glob("*.exit"))
    rig.start(OTHER)
    quiet = set(rig.folder.glob(f"{OTHER}.*"))
    rig.end(0)
    kept = set(rig.folder.iterdir()) - first
    for path in rig.folder.iterdir():
        os.utime(path, (0, 0))
    rig.start("rejeu-replay-third")
    left = set(rig.folder.iterdir())
    assert not first & left
    assert kept <= left
    assert quiet <= left


def test_a_job_that_was_killed_from_outside_has_failed(rig: ProcessRig) -> None:
    job = rig.run()
    keeper, *own = rig.processes(job)
    for member in own:
        member.kill()
    psutil.wait_procs([keeper], timeout=SECONDS)
    killed = found(rig.launcher)
    assert (killed.state, killed.detail.partition(":")[0]) == (JobState.FAILED, "exit code 137")


def test_the_process_id_that_is_told_is_the_jobs_own(rig: ProcessRig) -> None:
    rig.start()
    pid = int(found(rig.launcher).detail.partition(",")[0].removeprefix("pid "))
    assert psutil.Process(pid).cmdline()[:2] == [sys.executable, "-m"]


def test_a_pid_that_is_another_process_by_now_is_not_the_job(rig: ProcessRig) -> None:
    """After a restart of the machine, when nobody was left to write down how the job ended."""
    rig.run()
    rig.launcher.stop(NAME, drain=False)
    [record] = rig.folder.glob("*.json")
    content = json.loads(record.read_text(encoding="utf-8"))
    Path(content["exit_file"]).unlink()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        record.write_text(
            json.dumps(content | {"keeper": bystander.pid, "started": content["started"] - 60}), encoding="utf-8"
        )
        stopped = rig.launcher.stop(NAME)
        assert bystander.poll() is None
        bystander.communicate(b"\n")
    assert stopped is not None
    assert (stopped.state, stopped.detail.partition(":")[0]) == (JobState.FAILED, "exit code unknown")
    assert bystander.returncode == 0


def test_a_job_outlives_the_task_that_started_it(rig: ProcessRig) -> None:
    """A task that is killed is killed with its whole process group."""
    meeting = rig.meetings.new()
    task = """
import sys
from pathlib import Path
from rejeu.launchers.process import ProcessLauncher
from rejeu.testing.launchers import SmallJob

ProcessLauncher(Path(sys.argv[1])).start(SmallJob(("drained", "meet", sys.argv[2], "wait")))
print("started", flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", task, str(rig.folder), str(meeting)],
        env=os.environ | {"PYTHONPATH": f"{os.environ['PYTHONPATH']}{os.pathsep}{ROOT}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "started\n"
        meeting.read_text(encoding="utf-8")
        os.killpg(starter.pid, signal.SIGKILL)
    assert found(rig.launcher).state is JobState.RUNNING
    stopped = rig.launcher.stop(NAME)
    assert stopped is not None
    assert stopped.state is JobState.SUCCEEDED


def test_a_record_is_never_seen_half_written(rig: ProcessRig) -> None:
    """Whoever looks while jobs are started again and again sees the one or the other."""
    rig.end(0)
    with ThreadPoolExecutor(2) as pool:
        looks = [pool.submit(rig.launcher.find, NAME) for _ in range(50)]
        rig.end(0)
        assert all(isinstance(look.result(), Job) for look in looks)


BROKEN = ["", "{", "null", "[]", "{}", '{"keeper": -1}', '{"keeper": "many"}', "[" * 100_000, '"\\ud800"']


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_a_record_that_is_broken_is_told_with_what_helps(tmp_path: Path, text: str) -> None:
    launcher = process.ProcessLauncher(tmp_path)
    (tmp_path / f"{NAME}.json").write_text(text, encoding="utf-8")
    for use in (lambda: launcher.find(NAME), lambda: launcher.stop(NAME), lambda: launcher.start(SmallJob(()))):
        with pytest.raises(LaunchError, match=rf"^{NAME}: its record .*\.json is broken .*, and remove that file$"):
            use()


def test_a_record_that_is_no_file_is_told(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.json").mkdir()
    with pytest.raises(LaunchError, match=r"its record .* cannot be read: Is a directory"):
        process.ProcessLauncher(tmp_path).find(NAME)


def test_records_of_other_versions_are_read(rig: ProcessRig) -> None:
    job = rig.start()
    [record] = rig.folder.glob("*.json")
    content = json.loads(record.read_text(encoding="utf-8"))
    assert job.argv == tuple(content.pop("argv"))
    record.write_text(json.dumps(content), encoding="utf-8")
    assert (found(rig.launcher).id, found(rig.launcher).argv) == (job.id, None)
    record.write_text(json.dumps(content | {"newer": [1]}), encoding="utf-8")
    assert found(rig.launcher).id == job.id
