"""The rig of the launcher of local processes."""

from __future__ import annotations

import json
from pathlib import Path

import psutil

from rejeu.launchers.process import ProcessLauncher
from rejeu.ports import Job
from rejeu.testing.launchers import NAME, Meetings, SmallJob, found
from tests.launchers.rigs.rig import SECONDS


class ProcessRig:
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "jobs"
        self.meetings = Meetings(folder)
        self.launcher = ProcessLauncher(self.folder)

    def another(self) -> ProcessLauncher:
        return ProcessLauncher(self.folder)

    def start(self, name: str = NAME) -> Job:
        return self.run("drained", name=name)

    def run(self, *words: str, name: str = NAME, ready_text: str | None = None) -> Job:
        meeting = self.meetings.new()
        job = self.launcher.start(SmallJob((*words, "meet", str(meeting), "wait"), name, ready_text))
        meeting.read_text(encoding="utf-8")
        return job

    def end(self, code: int) -> Job:
        return self.ended(self.launcher.start(SmallJob(("say", "first words", "say", "last words", "exit", str(code)))))

    def ended(self, job: Job) -> Job:
        """The job as found once its process is gone."""
        psutil.wait_procs(self.processes(job), timeout=SECONDS)
        return found(self.launcher, job.name)

    def processes(self, job: Job) -> list[psutil.Process]:
        """The process of a job, and what it started; none once it is gone."""
        try:
            keeper = psutil.Process(int(job.id.partition(".")[0]))
            return [keeper, *keeper.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def made(self) -> int:
        return len(list(self.folder.glob("*.log")))

    def said(self, name: str = NAME) -> str:
        record = json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
        return Path(record["log"]).read_text(encoding="utf-8")

    def lives(self, name: str = NAME) -> bool:
        return any(each.status() != psutil.STATUS_ZOMBIE for each in self.processes(found(self.launcher, name)))

    def close(self) -> None:
        for record in self.folder.glob("*.json"):
            self.launcher.stop(record.stem, drain=False)
