"""Every launcher keeps the rules of `rejeu.testing.launchers`, on the real wire: a new one has a rig in `rigs/`."""

from __future__ import annotations

import pytest

from rejeu.target import LAUNCHERS
from rejeu.testing.launchers import LauncherContract, LauncherRig, ProcessesContract, ServerContract
from tests.launchers.rigs.cloud_run import CloudRunRig
from tests.launchers.rigs.dataflow import DataflowRig
from tests.launchers.rigs.docker import DockerRig
from tests.launchers.rigs.fake import FakeRig
from tests.launchers.rigs.kubernetes import KubernetesRig
from tests.launchers.rigs.process import ProcessRig
from tests.launchers.rigs.rig import Build
from tests.launchers.rigs.vertex_ai import VertexRig

pytestmark = pytest.mark.slow

CONTRACTS = (LauncherContract, ProcessesContract, ServerContract)


class TestFake(LauncherContract):
    name = "fake"

    @pytest.fixture
    def rig(self, build: Build) -> LauncherRig:
        return build(FakeRig)


class TestProcess(ProcessesContract):
    name = "process"

    @pytest.fixture
    def rig(self, build: Build) -> LauncherRig:
        return build(ProcessRig)


class TestDocker(ProcessesContract, ServerContract):
    name = "docker"

    @pytest.fixture
    def rig(self, build: Build) -> LauncherRig:
        return build(DockerRig)


class TestKubernetes(ProcessesContract, ServerContract):
    name = "kubernetes"

    @pytest.fixture
    def rig(self, build: Build) -> LauncherRig:
        return build(KubernetesRig)


class TestCloudRun(ServerContract):
    name = "cloud-run"

    @pytest.fixture
    def rig(self, build: Build) -> LauncherRig:
        return build(CloudRunRig)


class TestVertex(ServerContract):
    name = "vertex-ai"

    @pytest.fixture
    def rig(self, build: Build) -> LauncherRig:
        return build(VertexRig)


class TestDataflow(ServerContract):
    name = "dataflow"

    @pytest.fixture
    def rig(self, build: Build) -> LauncherRig:
        return build(DataflowRig)


def test_every_launcher_is_tried_here() -> None:
    tried = {each.name for contract in CONTRACTS for each in contract.__subclasses__() if each not in CONTRACTS}
    assert tried - {TestFake.name} == set(LAUNCHERS)
