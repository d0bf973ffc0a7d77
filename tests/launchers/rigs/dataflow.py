"""The rig of the Dataflow launcher: a Dataflow whose jobs run nowhere, and are where a test puts them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rejeu.launchers.dataflow import DataflowLauncher
from rejeu.ports import Job
from rejeu.testing.launchers import NAME, SmallJob, found
from tests.fakes.dataflow_server import DataflowServer

PLACE = {
    "project": "a-project",
    "region": "europe-west1",
    "template": "gs://a-bucket/stream.json",
    "image": "rejeu-beam:test",
    "folder": "gs://a-bucket/dataflow",
    "patience": 0.2,
}


class DataflowRig:
    def __init__(self, folder: Path) -> None:
        self.server = DataflowServer()
        self._patches = pytest.MonkeyPatch()
        self._patches.setenv("DATAFLOW_EMULATOR_HOST", f"http://{self.server.address}")
        self.launcher = self.another()

    def another(self, **settings: Any) -> DataflowLauncher:
        return DataflowLauncher(**PLACE | settings)

    def start(self, name: str = NAME) -> Job:
        self.launcher.start(SmallJob((), name))
        self.server.provision()
        return found(self.launcher, name)

    def end(self, code: int) -> Job:
        self.start()
        self.server.move(self.server.jobs[-1], *(("FAILED", f"exit code {code}: last words") if code else ("DONE",)))
        return found(self.launcher)

    def made(self) -> int:
        return len(self.server.jobs)

    def asked(self) -> int:
        return len(self.server.calls)

    def go_away(self) -> None:
        self.server.close()

    def close(self) -> None:
        self.server.close()
        self._patches.undo()
