"""The bench of the Docker launcher: an engine whose containers are processes of this machine."""

from __future__ import annotations

from pathlib import Path

from rejeu.launchers.docker import DockerLauncher
from tests.contract.benches.bench import PYTHONPATH
from tests.contract.benches.containers import ContainersBench
from tests.fakes.docker_server import IMAGE, DockerServer


class DockerBench(ContainersBench):
    server: DockerServer

    def serve(self, folder: Path) -> DockerServer:
        server = DockerServer(folder, PYTHONPATH)
        self._patches.setenv("DOCKER_HOST", f"tcp://{server.address}")
        return server

    def another(self) -> DockerLauncher:
        return DockerLauncher(IMAGE)
