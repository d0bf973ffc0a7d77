"""The rig of the Docker launcher: an engine whose containers are processes of this machine."""

from __future__ import annotations

from pathlib import Path

from rejeu.launchers.docker import DockerLauncher
from tests.fakes.docker_server import IMAGE, DockerServer
from tests.launchers.rigs.containers import ContainersRig
from tests.launchers.rigs.rig import PYTHONPATH


class DockerRig(ContainersRig):
    server: DockerServer

    def serve(self, folder: Path) -> DockerServer:
        server = DockerServer(folder, PYTHONPATH)
        self._patches.setenv("DOCKER_HOST", f"tcp://{server.address}")
        return server

    def another(self) -> DockerLauncher:
        return DockerLauncher(IMAGE)
