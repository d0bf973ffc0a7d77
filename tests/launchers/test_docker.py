"""What Docker adds to the rules of ports.Launcher: what is asked of the engine, and what it may answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from docker.client import DockerClient
from docker.models.containers import Container

import rejeu.launchers.docker
from rejeu.errors import LaunchError
from rejeu.launchers.docker import DockerLauncher
from rejeu.ports import Job, JobState
from rejeu.testing.launchers import NAME, SmallJob, found
from tests.fakes.docker_server import IMAGE
from tests.fakes.rest import Call
from tests.launchers.rigs.docker import DockerRig
from tests.launchers.rigs.rig import Build

pytestmark = pytest.mark.emulated


@pytest.fixture
def rig(build: Build) -> DockerRig:
    made = build(DockerRig)
    assert isinstance(made, DockerRig)
    return made


def _made(**values: Any) -> Container:
    """A container that a starter made, who died before it was started."""
    ours = {"entrypoint": ["python", "-m", SmallJob.module], "command": ["wait"], "labels": {"rejeu.job": NAME}}
    return DockerClient.from_env().containers.create(IMAGE, name=NAME, **ours | values)


def test_the_job_is_what_the_container_runs_whatever_the_image_would(rig: DockerRig) -> None:
    rig.launcher.start(SmallJob(("say", "--topic=t", "wait")))
    asked = rig.server.newest(NAME).config
    assert (asked["Image"], asked["Entrypoint"]) == (IMAGE, ["python", "-m", SmallJob.module])
    assert asked["Cmd"] == ["say", "--topic=t", "wait"]


def test_a_container_is_neither_restarted_nor_removed_and_gains_no_rights(rig: DockerRig) -> None:
    rig.start()
    host = rig.server.newest(NAME).config["HostConfig"]
    assert host["RestartPolicy"] == {"Name": "no"}
    assert not host.get("AutoRemove")
    assert host["Init"] is True
    assert (host["CapDrop"], host["SecurityOpt"]) == (["ALL"], ["no-new-privileges"])


def test_a_container_writes_nowhere_but_to_its_volumes_and_to_one_that_goes_with_it(rig: DockerRig) -> None:
    rig.start()
    asked = rig.server.newest(NAME).config
    assert asked["HostConfig"]["ReadonlyRootfs"] is True
    assert (asked["Volumes"], asked["HostConfig"].get("Binds")) == ({"/tmp": {}}, ["/tmp"])
    rig.launcher.stop(NAME)
    rig.start()
    assert [call.query["v"] for call in rig.server.calls if call.method == "DELETE"] == ["True"]


def test_a_container_has_a_limit_of_all_that_it_could_take_from_others(rig: DockerRig) -> None:
    DockerLauncher(IMAGE, cpu="0.5", memory="512Mi").start(SmallJob(("wait",)))
    host = rig.server.newest(NAME).config["HostConfig"]
    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (500_000_000, 512 * 2**20, 512 * 2**20)
    assert host["PidsLimit"] == 512


def test_environment_network_volumes_and_user_are_the_launchers(rig: DockerRig) -> None:
    launcher = DockerLauncher(IMAGE, {"REJEU_PROJECT": "rejeu-local"}, "streams", ["/srv/state:/state"], "1000")
    launcher.start(SmallJob(("wait",)))
    asked = rig.server.newest(NAME).config
    assert asked["Env"] == ["REJEU_PROJECT=rejeu-local"]
    assert asked["HostConfig"]["NetworkMode"] == "streams"
    assert asked["HostConfig"]["Binds"] == ["/srv/state:/state", "/tmp"]
    assert asked["User"] == "1000"


def test_a_container_has_the_jobs_name_and_a_label_with_all_of_it(rig: DockerRig) -> None:
    long = f"{NAME}-{'x' * 60}"
    for name in (NAME, long):
        rig.start(name)
    assert rig.server.newest(NAME).name == NAME
    assert len(rig.server.newest(long).name) == 63
    assert rig.server.newest(long).config["Labels"] == {"rejeu.job": long}


def test_a_container_whose_starter_died_is_started_by_the_next(rig: DockerRig) -> None:
    container = _made()
    assert found(rig.launcher).state is JobState.STARTING
    job = rig.launcher.start(SmallJob(("exit", "1")))
    assert (job.id, job.state) == (container.id, JobState.RUNNING)


def test_a_container_that_never_ran_is_gone_once_it_is_stopped(rig: DockerRig) -> None:
    _made()
    assert rig.launcher.stop(NAME) is None
    assert rig.server.containers == []


def test_a_container_that_ended_makes_room_for_the_next(rig: DockerRig) -> None:
    rig.end(0)
    rig.run("deaf")
    rig.launcher.stop(NAME, drain=False)
    rig.start()
    assert [(each.name, each.status) for each in rig.server.containers] == [(NAME, "running")]


def test_a_drained_job_that_ends_well_has_succeeded(rig: DockerRig) -> None:
    rig.start()
    job = rig.launcher.stop(NAME)
    assert job is not None
    assert job.state is JobState.SUCCEEDED


def test_a_job_that_does_not_listen_is_killed_in_the_end(rig: DockerRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejeu.launchers.docker, "DRAIN_SECONDS", 0.5)
    rig.run("deaf")
    job = rig.launcher.stop(NAME)
    assert job is not None
    assert (job.state, rig.process().exit_code) == (JobState.STOPPED, 137)


def test_a_job_that_was_killed_by_somebody_else_has_failed(rig: DockerRig) -> None:
    rig.run("say", "last words")
    rig.process().kill()
    job = found(rig.launcher)
    assert (job.state, job.detail.partition(" (")[0]) == (JobState.FAILED, "exit code 137: last words")


def test_a_job_that_ran_out_of_memory_says_so(rig: DockerRig) -> None:
    rig.run()
    rig.server.newest(NAME).out_of_memory = True
    rig.process().kill()
    assert found(rig.launcher).detail.startswith("exit code 137: out of memory (container ")


def test_a_job_whose_output_cannot_be_read_is_told_by_its_exit_code(rig: DockerRig) -> None:
    rig.run()
    rig.server.newest(NAME).readable = False
    rig.process().kill()
    assert found(rig.launcher).detail.startswith("exit code 137:  (container ")


def test_an_image_that_is_not_there_is_said_with_what_to_do(rig: DockerRig) -> None:
    with pytest.raises(LaunchError) as caught:
        DockerLauncher("nowhere:1").start(SmallJob(()))
    assert str(caught.value) == (
        f"{NAME} cannot be managed by Docker: No such image: nowhere:1; build the image, or docker pull it"
    )


def test_a_container_that_cannot_start_leaves_nothing_behind(rig: DockerRig) -> None:
    with pytest.raises(LaunchError, match=r"executable file not found in \$PATH"):
        DockerLauncher(IMAGE, {"PATH": "/nowhere"}).start(SmallJob(()))
    assert rig.server.containers == []


def test_a_name_that_somebody_elses_container_has_is_said(rig: DockerRig) -> None:
    _made(labels={"of": "others"})
    with pytest.raises(LaunchError, match="by a foreign container"):
        rig.launcher.start(SmallJob(()))
    assert rig.launcher.find(NAME) is None


@pytest.mark.parametrize(
    "use", [lambda launcher: launcher.find(NAME), lambda launcher: launcher.stop(NAME)], ids=["find", "stop"]
)
def test_a_container_that_is_removed_meanwhile_is_none(
    rig: DockerRig, use: Callable[[DockerLauncher], Job | None]
) -> None:
    """Listed, and gone when it is looked at."""
    rig.end(0)

    def remove(call: Call) -> None:
        if call.path.endswith(f"{container.id}/json"):
            rig.server.containers.clear()

    container = rig.server.newest(NAME)
    rig.server.on_call = remove
    assert use(rig.launcher) is None
