"""Worker and triggerer are two machines with a home each, and share nothing: a job is found by its name from both."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from rejeu.ports import JobState
from tests.fakes.cloud_run_server import CloudRunServer
from tests.launchers.rigs.rig import PYTHONPATH, SECONDS

pytestmark = pytest.mark.emulated

NAME: Final = "rejeu-batch-web-2021-04-30-1"
ASK: Final = """
from rejeu.launchers.choose import job_launcher
from rejeu.target import Target
from rejeu.testing.launchers import SmallJob
launcher = job_launcher(Target.from_env())
"""
START: Final = ASK + f"print(launcher.start(SmallJob(('wait',), {NAME!r})).id, flush=True)\n"
DIE: Final = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n"
FIND: Final = ASK + f"job = launcher.find({NAME!r}); print(job.id if job else '', job.state if job else '')\n"
STOP: Final = ASK + f"print(launcher.stop({NAME!r}).state)\n"


class Machine:
    """A machine: its programs have a home that nobody else has."""

    def __init__(self, home: Path, place: dict[str, str]) -> None:
        home.mkdir()
        self.home, self._place = home, place

    def run(self, program: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": PYTHONPATH, "HOME": str(self.home), **self._place}
        command = [sys.executable, "-c", program]
        return subprocess.run(
            command, cwd=self.home, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS
        )


@pytest.fixture
def cloud_run(tmp_path: Path) -> CloudRunServer:
    return CloudRunServer(tmp_path, PYTHONPATH)


@pytest.fixture
def place(cloud_run: CloudRunServer) -> dict[str, str]:
    settings = {"LAUNCHER": "cloud-run", "JOBS": "dataflow", "REGION": "europe-west1", "BUCKET": "b"}
    settings |= {"IMAGE": "i", "JOBS_IMAGE": "j", "STATE": "gs://b/s", "TEMPLATE": "gs://b/t", "PROJECT": "rejeu-test"}
    fakes = {"CLOUD_RUN_EMULATOR_HOST": cloud_run.address, "DATAFLOW_EMULATOR_HOST": "http://127.0.0.1:9"}
    return {f"REJEU_{name}": value for name, value in settings.items()} | fakes


def test_a_job_whose_worker_dies_is_adopted_watched_and_stopped_from_other_machines(
    tmp_path: Path, cloud_run: CloudRunServer, place: dict[str, str]
) -> None:
    worker, another, triggerer = (Machine(tmp_path / name, place) for name in ("worker", "another", "triggerer"))
    died = worker.run(START + DIE)
    assert died.returncode == -signal.SIGKILL, died.stderr
    first = died.stdout.strip()
    assert another.run(START).stdout.strip() == first
    assert len(cloud_run.runs) == 1
    assert triggerer.run(FIND).stdout.split() == [first, JobState.RUNNING]
    assert triggerer.run(STOP).stdout.strip() == JobState.STOPPED
    assert another.run(FIND).stdout.split() == [first, JobState.STOPPED]
    cloud_run.close()
    assert [*worker.home.iterdir(), *another.home.iterdir(), *triggerer.home.iterdir()] == []
