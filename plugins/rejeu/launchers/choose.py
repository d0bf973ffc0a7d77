"""Which launcher starts a job, as the target says; each brings its library only when it is first used."""

from __future__ import annotations

import os
from typing import Final

from rejeu.errors import RequestError
from rejeu.launchers.split import SplitLauncher
from rejeu.ports import Launcher, UpdatingLauncher
from rejeu.spec.names import STREAM_JOB
from rejeu.target import LAUNCHERS, Target

HERE: Final = "process"
"""What starts jobs that end by themselves where the launcher of replays does not."""


def replay_launcher(target: Target) -> Launcher:
    """What starts replays."""
    return _made(target.launcher, target)


def job_launcher(target: Target) -> Launcher:
    """What starts Beam's jobs: streaming ones where REJEU_JOBS says, and those that end by themselves beside replays.

    So on a cloud's target nothing runs on an Airflow worker but tasks, and each job is found by its name from anywhere.
    """
    ending = _of_ending_jobs(target)
    if ending == target.jobs:
        return _made(ending, target)
    return SplitLauncher(_made(target.jobs, target), _made(ending, target.for_jobs()))


def are_processes(target: Target, name: str) -> bool:
    """Whether jobs like the one of this name are processes of the machine that starts them, and known nowhere else."""
    return (target.jobs if name.startswith(STREAM_JOB) else _of_ending_jobs(target)) == HERE


def _of_ending_jobs(target: Target) -> str:
    return target.launcher if LAUNCHERS[target.launcher].runs_jobs else HERE


def updating_launcher(target: Target) -> UpdatingLauncher:
    """What starts streaming jobs and updates them in place. Raises RequestError where they run where none can be."""
    launcher = _made(target.jobs, target)
    if not isinstance(launcher, UpdatingLauncher):
        rule = f"REJEU_JOBS is {target.jobs!r}, which updates no job in place"
        raise RequestError(f"{rule}: stop the stream and start it again, or let its job run on dataflow")
    return launcher


def _made(name: str, target: Target) -> Launcher:
    return LAUNCHERS.find(name, "the launcher").make(target, os.environ)
