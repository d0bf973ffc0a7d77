"""The rules of ports.Launcher, asked of every launcher: a new one is a rig in `rigs/` and a line here."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rejeu.errors import LaunchError
from rejeu.ports import ENDED, Job, JobState
from tests.launchers.rigs.cloud_run import CloudRunRig
from tests.launchers.rigs.dataflow import DataflowRig
from tests.launchers.rigs.docker import DockerRig
from tests.launchers.rigs.fake import FakeRig
from tests.launchers.rigs.kubernetes import KubernetesRig
from tests.launchers.rigs.process import ProcessRig
from tests.launchers.rigs.rig import NAME, Build, ProcessesRig, Rig, ServerRig, SmallJob, found
from tests.launchers.rigs.vertex_ai import VertexRig

pytestmark = pytest.mark.slow

PROCESSES: list[Callable[[Path], ProcessesRig]] = [ProcessRig, DockerRig, KubernetesRig]
SERVERS: list[Callable[[Path], ServerRig]] = [DockerRig, KubernetesRig, CloudRunRig, VertexRig, DataflowRig]
RIGS: list[Callable[[Path], Rig]] = list(dict.fromkeys([FakeRig, *PROCESSES, *SERVERS]))
LONG_NAMES = [f"{NAME}-{'x' * 60}-{end}" for end in ("0-of-4", "1-of-4", "standby")]


def _name(rig: Any) -> str:
    return str(rig.__name__.removesuffix("Rig").lower())


@pytest.fixture(params=RIGS, ids=_name)
def rig(request: pytest.FixtureRequest, build: Build) -> Rig:
    return build(request.param)


@pytest.fixture(params=PROCESSES, ids=_name)
def processes(request: pytest.FixtureRequest, build: Build) -> Any:
    return build(request.param)


@pytest.fixture(params=SERVERS, ids=_name)
def server(request: pytest.FixtureRequest, build: Build) -> Any:
    return build(request.param)


# Every launcher


def _facts(job: Job) -> tuple[str, str, JobState]:
    """What a program goes by; the detail is for a person to read, and may know more later."""
    return job.name, job.id, job.state


def test_a_job_that_was_started_runs_and_is_found(rig: Rig) -> None:
    job = rig.start()
    assert (job.name, job.state) == (NAME, JobState.RUNNING)
    assert _facts(found(rig.launcher)) == _facts(job)


def test_another_launcher_of_the_same_place_knows_the_job(rig: Rig) -> None:
    job = rig.start()
    assert _facts(found(rig.another())) == _facts(job)


def test_a_job_is_found_by_its_exact_name_alone(rig: Rig) -> None:
    rig.start(f"{NAME}-2")
    for name in (NAME, f"{NAME}-", f"{NAME}-20", NAME.upper()):
        assert rig.launcher.find(name) is None


def test_names_that_a_cloud_finds_too_long_stay_apart(rig: Rig) -> None:
    first, second, never = LONG_NAMES
    jobs = [rig.start(first), rig.start(second)]
    assert [job.name for job in jobs] == [first, second]
    assert [_facts(found(rig.launcher, job.name)) for job in jobs] == [_facts(job) for job in jobs]
    assert rig.launcher.find(never) is None


def test_a_job_that_runs_is_adopted_not_started_again(rig: Rig) -> None:
    job = rig.start()
    assert _facts(rig.launcher.start(SmallJob(("exit", "1")))) == _facts(job)
    assert rig.made() == 1


def test_starters_at_once_start_one(rig: Rig) -> None:
    with ThreadPoolExecutor(4) as pool:
        jobs = list(pool.map(lambda _: rig.another().start(SmallJob(("wait",))), range(4)))
    assert len({job.id for job in jobs}) == 1
    assert rig.made() == 1


def test_starters_at_once_start_one_afresh(rig: Rig) -> None:
    before = rig.end(3)
    with ThreadPoolExecutor(4) as pool:
        jobs = list(pool.map(lambda _: rig.another().start(SmallJob(("wait",))), range(4)))
    assert len({job.id for job in jobs} - {before.id}) == 1
    assert rig.made() == 2


def test_jobs_of_other_names_run_beside_it(rig: Rig) -> None:
    one, other = rig.start(), rig.start("rejeu-replay-views")
    assert one.id != other.id
    assert {found(rig.launcher, each.name).state for each in (one, other)} == {JobState.RUNNING}


def test_a_job_that_ended_well_has_succeeded(rig: Rig) -> None:
    assert rig.end(0).state is JobState.SUCCEEDED


def test_a_job_that_ended_badly_has_failed_and_says_why(rig: Rig) -> None:
    job = rig.end(3)
    assert job.state is JobState.FAILED
    assert "exit code 3: " in job.detail


@pytest.mark.parametrize("code", [0, 3])
def test_a_job_that_ended_is_started_afresh(rig: Rig, code: int) -> None:
    before = rig.end(code)
    after = rig.start()
    assert after.id != before.id
    assert found(rig.launcher) == after


@pytest.mark.parametrize("drain", [True, False])
def test_a_job_that_was_stopped_has_ended_and_stays_so(rig: Rig, drain: bool) -> None:
    rig.start()
    stopped = rig.launcher.stop(NAME, drain=drain)
    assert stopped is not None
    assert stopped.state in ENDED - {JobState.FAILED}
    assert found(rig.another()) == stopped


@pytest.mark.parametrize("drain", [True, False])
def test_a_job_that_was_stopped_is_started_afresh(rig: Rig, drain: bool) -> None:
    before = rig.start()
    rig.launcher.stop(NAME, drain=drain)
    after = rig.start()
    assert after.id != before.id
    assert found(rig.launcher) == after


@pytest.mark.parametrize("code", [0, 3])
def test_stopping_a_job_that_ended_changes_nothing(rig: Rig, code: int) -> None:
    ended = rig.end(code)
    assert rig.launcher.stop(NAME) == ended
    assert found(rig.launcher) == ended


def test_stopping_one_job_leaves_the_others(rig: Rig) -> None:
    rig.start()
    other = rig.start("rejeu-replay-views")
    rig.launcher.stop(NAME)
    assert found(rig.launcher, other.name) == other


def test_stopping_a_job_that_never_was_is_nothing(rig: Rig) -> None:
    assert rig.launcher.stop(NAME) is None


# Launchers whose jobs are real processes here


def test_a_job_is_starting_until_it_has_said_that_it_is_ready(processes: ProcessesRig) -> None:
    processes.run("say", "I am ready", ready_text="I am ready now")
    assert found(processes.another()).state is JobState.STARTING
    processes.launcher.stop(NAME, drain=False)
    processes.run("say", "I am ready now", ready_text="ready now")
    assert found(processes.another()).state is JobState.RUNNING


def test_a_job_that_is_starting_is_adopted_too(processes: ProcessesRig) -> None:
    job = processes.run(ready_text="never said")
    assert processes.launcher.start(SmallJob(("exit", "1"))).id == job.id


@pytest.mark.parametrize("code", [1, 2, 5, 130])
def test_the_exit_code_is_the_jobs_own(processes: ProcessesRig, code: int) -> None:
    assert processes.end(code).detail.startswith(f"exit code {code}: first words | last words (")


def test_arguments_arrive_as_they_are(processes: ProcessesRig) -> None:
    odd = "$HOME $(HOME) 'quoted' \"twice\" ; exit 9 é\nsecond line"
    processes.run("say", odd)
    assert processes.said() == odd + "\n"


def test_a_drained_job_finishes_what_it_has_in_hand(processes: ProcessesRig) -> None:
    processes.run("drained")
    processes.launcher.stop(NAME)
    assert processes.said() == "drained\n"
    assert not processes.lives()


def test_a_job_that_does_not_listen_is_ended_where_it_is_not_drained(processes: ProcessesRig) -> None:
    processes.run("deaf")
    stopped = processes.launcher.stop(NAME, drain=False)
    assert stopped is not None
    assert stopped.state is JobState.STOPPED
    assert not processes.lives()


# Launchers that ask a server


def test_a_server_that_is_away_is_a_launch_error_that_says_what_to_do(server: ServerRig) -> None:
    job = server.start()
    server.go_away()
    for launcher in (server.launcher, server.another()):
        for use in (lambda it: it.start(SmallJob(())), lambda it: it.find(job.name), lambda it: it.stop(job.name)):
            with pytest.raises(LaunchError, match=r"^rejeu-replay-clicks cannot be managed by .*: .*; \w+"):
                use(launcher)
