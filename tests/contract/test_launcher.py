"""The rules of ports.Launcher, asked of every launcher: a new one is a bench in `benches/` and a line here."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rejeu.errors import LaunchError
from rejeu.ports import ENDED, JobState
from tests.contract.benches.bench import NAME, Bench, ProcessesBench, ServerBench, SmallJob, found
from tests.contract.benches.cloud_run import CloudRunBench
from tests.contract.benches.dataflow import DataflowBench
from tests.contract.benches.docker import DockerBench
from tests.contract.benches.fake import FakeBench
from tests.contract.benches.kubernetes import KubernetesBench
from tests.contract.benches.process import ProcessBench
from tests.contract.benches.vertex_ai import VertexBench
from tests.contract.conftest import Build

PROCESSES: list[Callable[[Path], ProcessesBench]] = [ProcessBench, DockerBench, KubernetesBench]
SERVERS: list[Callable[[Path], ServerBench]] = [DockerBench, KubernetesBench, CloudRunBench, VertexBench, DataflowBench]
BENCHES: list[Callable[[Path], Bench]] = list(dict.fromkeys([FakeBench, *PROCESSES, *SERVERS]))
LONG_NAMES = [f"{NAME}-{'x' * 60}-{end}" for end in ("0-of-4", "1-of-4", "standby")]


def _name(bench: Any) -> str:
    return str(bench.__name__.removesuffix("Bench").lower())


@pytest.fixture(params=BENCHES, ids=_name)
def bench(request: pytest.FixtureRequest, build: Build) -> Bench:
    return build(request.param)


@pytest.fixture(params=PROCESSES, ids=_name)
def processes(request: pytest.FixtureRequest, build: Build) -> Any:
    return build(request.param)


@pytest.fixture(params=SERVERS, ids=_name)
def server(request: pytest.FixtureRequest, build: Build) -> Any:
    return build(request.param)


# Every launcher


def test_a_job_that_was_started_runs_and_is_found(bench: Bench) -> None:
    job = bench.start()
    assert (job.name, job.state) == (NAME, JobState.RUNNING)
    assert found(bench.launcher) == job


def test_another_launcher_of_the_same_place_knows_the_job(bench: Bench) -> None:
    job = bench.start()
    assert found(bench.another()) == job


def test_a_job_is_found_by_its_exact_name_alone(bench: Bench) -> None:
    bench.start(f"{NAME}-2")
    for name in (NAME, f"{NAME}-", f"{NAME}-20", NAME.upper()):
        assert bench.launcher.find(name) is None


def test_names_that_a_cloud_finds_too_long_stay_apart(bench: Bench) -> None:
    first, second, never = LONG_NAMES
    jobs = [bench.start(first), bench.start(second)]
    assert [job.name for job in jobs] == [first, second]
    assert [found(bench.launcher, job.name) for job in jobs] == jobs
    assert bench.launcher.find(never) is None


def test_a_job_that_runs_is_adopted_not_started_again(bench: Bench) -> None:
    job = bench.start()
    assert bench.launcher.start(SmallJob(("exit", "1"))) == job
    assert bench.made() == 1


def test_starters_at_once_start_one(bench: Bench) -> None:
    with ThreadPoolExecutor(4) as pool:
        jobs = list(pool.map(lambda _: bench.another().start(SmallJob(("wait",))), range(4)))
    assert len({job.id for job in jobs}) == 1
    assert bench.made() == 1


def test_starters_at_once_start_one_afresh(bench: Bench) -> None:
    before = bench.end(3)
    with ThreadPoolExecutor(4) as pool:
        jobs = list(pool.map(lambda _: bench.another().start(SmallJob(("wait",))), range(4)))
    assert len({job.id for job in jobs} - {before.id}) == 1
    assert bench.made() == 2


def test_jobs_of_other_names_run_beside_it(bench: Bench) -> None:
    one, other = bench.start(), bench.start("rejeu-replay-views")
    assert one.id != other.id
    assert {found(bench.launcher, each.name).state for each in (one, other)} == {JobState.RUNNING}


def test_a_job_that_ended_well_has_succeeded(bench: Bench) -> None:
    assert bench.end(0).state is JobState.SUCCEEDED


def test_a_job_that_ended_badly_has_failed_and_says_why(bench: Bench) -> None:
    job = bench.end(3)
    assert job.state is JobState.FAILED
    assert "exit code 3: " in job.detail


@pytest.mark.parametrize("code", [0, 3])
def test_a_job_that_ended_is_started_afresh(bench: Bench, code: int) -> None:
    before = bench.end(code)
    after = bench.start()
    assert after.id != before.id
    assert found(bench.launcher) == after


@pytest.mark.parametrize("drain", [True, False])
def test_a_job_that_was_stopped_has_ended_and_stays_so(bench: Bench, drain: bool) -> None:
    bench.start()
    stopped = bench.launcher.stop(NAME, drain=drain)
    assert stopped is not None
    assert stopped.state in ENDED - {JobState.FAILED}
    assert found(bench.another()) == stopped


@pytest.mark.parametrize("drain", [True, False])
def test_a_job_that_was_stopped_is_started_afresh(bench: Bench, drain: bool) -> None:
    before = bench.start()
    bench.launcher.stop(NAME, drain=drain)
    after = bench.start()
    assert after.id != before.id
    assert found(bench.launcher) == after


@pytest.mark.parametrize("code", [0, 3])
def test_stopping_a_job_that_ended_changes_nothing(bench: Bench, code: int) -> None:
    ended = bench.end(code)
    assert bench.launcher.stop(NAME) == ended
    assert found(bench.launcher) == ended


def test_stopping_one_job_leaves_the_others(bench: Bench) -> None:
    bench.start()
    other = bench.start("rejeu-replay-views")
    bench.launcher.stop(NAME)
    assert found(bench.launcher, other.name) == other


def test_stopping_a_job_that_never_was_is_nothing(bench: Bench) -> None:
    assert bench.launcher.stop(NAME) is None


# Launchers whose jobs are real processes here


def test_a_job_is_starting_until_it_has_said_that_it_is_ready(processes: ProcessesBench) -> None:
    processes.run("say", "I am ready", ready_text="I am ready now")
    assert found(processes.another()).state is JobState.STARTING
    processes.launcher.stop(NAME, drain=False)
    processes.run("say", "I am ready now", ready_text="ready now")
    assert found(processes.another()).state is JobState.RUNNING


def test_a_job_that_is_starting_is_adopted_too(processes: ProcessesBench) -> None:
    job = processes.run(ready_text="never said")
    assert processes.launcher.start(SmallJob(("exit", "1"))).id == job.id


@pytest.mark.parametrize("code", [1, 2, 5, 130])
def test_the_exit_code_is_the_jobs_own(processes: ProcessesBench, code: int) -> None:
    assert processes.end(code).detail.startswith(f"exit code {code}: first words | last words (")


def test_arguments_arrive_as_they_are(processes: ProcessesBench) -> None:
    odd = "$HOME $(HOME) 'quoted' \"twice\" ; exit 9 é\nsecond line"
    processes.run("say", odd)
    assert processes.said() == odd + "\n"


def test_a_drained_job_finishes_what_it_has_in_hand(processes: ProcessesBench) -> None:
    processes.run("drained")
    processes.launcher.stop(NAME)
    assert processes.said() == "drained\n"
    assert not processes.lives()


def test_a_job_that_does_not_listen_is_ended_where_it_is_not_drained(processes: ProcessesBench) -> None:
    processes.run("deaf")
    stopped = processes.launcher.stop(NAME, drain=False)
    assert stopped is not None
    assert stopped.state is JobState.STOPPED
    assert not processes.lives()


# Launchers that ask a server


def test_a_server_that_is_away_is_a_launch_error_that_says_what_to_do(server: ServerBench) -> None:
    job = server.start()
    server.go_away()
    for launcher in (server.launcher, server.another()):
        for use in (lambda it: it.start(SmallJob(())), lambda it: it.find(job.name), lambda it: it.stop(job.name)):
            with pytest.raises(LaunchError, match=r"^rejeu-replay-clicks .*: .*\. \w+"):
                use(launcher)
