"""Which launcher starts a job, as the target says; each brings its library only when it is chosen."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from rejeu.errors import RequestError
from rejeu.ports import Launcher
from rejeu.target import Target

if TYPE_CHECKING:
    from rejeu.launchers.dataflow import DataflowLauncher
    from rejeu.launchers.process import ProcessLauncher

EMULATORS: Final = (
    "PUBSUB_EMULATOR_HOST",
    "BIGQUERY_EMULATOR_HOST",
    "BIGQUERY_STORAGE_EMULATOR_HOST",
    "STORAGE_EMULATOR_HOST",
)
"""What names the servers that a container on this machine is to talk to, as its starter does."""


def job_launcher(target: Target) -> Launcher:
    """What starts Beam's jobs: those that end by themselves here, and streaming ones where the target says."""
    if target.jobs == "process":
        return _here(target)
    from rejeu.launchers.split import SplitLauncher

    return SplitLauncher(dataflow_launcher(target), _here(target))


def dataflow_launcher(target: Target) -> DataflowLauncher:
    """What starts streaming jobs on Dataflow. Raises RequestError where they do not run there."""
    if target.jobs != "dataflow":
        raise RequestError("REJEU_JOBS is 'process': set it to dataflow, where streaming jobs are to run there")
    from rejeu.launchers.dataflow import DataflowLauncher

    folder = f"gs://{target.bucket}/rejeu/dataflow"
    account = target.jobs_service_account or None
    return DataflowLauncher(target.project, target.region, target.template, target.jobs_image, folder, account)


def replay_launcher(target: Target) -> Launcher:
    """What starts replays."""
    account = target.service_account or None
    match target.launcher:
        case "docker":
            from rejeu.launchers.docker import DockerLauncher

            emulators = {name: os.environ[name] for name in EMULATORS if name in os.environ}
            return DockerLauncher(target.image, emulators, target.network or None)
        case "kubernetes":
            from rejeu.launchers.kubernetes import KubernetesLauncher

            return KubernetesLauncher(target.image, target.namespace, account)
        case "cloud-run":
            from rejeu.launchers.cloud_run import CloudRunLauncher

            return CloudRunLauncher(target.project, target.region, target.image, account)
        case "vertex-ai":
            from rejeu.launchers.vertex_ai import VertexLauncher

            return VertexLauncher(target.project, target.region, target.image, account)
    return _here(target)


def _here(target: Target) -> ProcessLauncher:
    """What starts processes of this machine."""
    from rejeu.launchers.process import ProcessLauncher

    return ProcessLauncher(target.home / "jobs")
