"""Which launcher starts a job, as the target says; each brings its library only when it is first used."""

from __future__ import annotations

import os
from typing import Final

from rejeu.errors import RequestError
from rejeu.launchers.split import SplitLauncher
from rejeu.ports import Launcher, UpdatingLauncher
from rejeu.target import LAUNCHERS, Target

HERE: Final = "process"
"""What starts jobs that end by themselves, whatever the target says."""


def replay_launcher(target: Target) -> Launcher:
    """What starts replays."""
    return _made(target.launcher, target)


def job_launcher(target: Target) -> Launcher:
    """What starts Beam's jobs: those that end by themselves here, and streaming ones where the target says."""
    here = _made(HERE, target)
    return here if target.jobs == HERE else SplitLauncher(_made(target.jobs, target), here)


def updating_launcher(target: Target) -> UpdatingLauncher:
    """What starts streaming jobs and updates them in place. Raises RequestError where they run where none can be."""
    launcher = _made(target.jobs, target)
    if not isinstance(launcher, UpdatingLauncher):
        rule = f"REJEU_JOBS is {target.jobs!r}, which updates no job in place"
        raise RequestError(f"{rule}: stop the stream and start it again, or let its job run on dataflow")
    return launcher


def _made(name: str, target: Target) -> Launcher:
    return LAUNCHERS.find(name, "the launcher").make(target, os.environ)
