"""The bench of the Kubernetes launcher: a cluster whose pods are processes of this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kubernetes.config import kube_config

from rejeu.launchers.kubernetes import KubernetesLauncher
from rejeu.ports import Job
from tests.contract.benches.bench import NAME, PYTHONPATH, SECONDS, Meetings, SmallJob, found
from tests.fakes.kubernetes_server import IMAGE, KubernetesServer
from tests.fakes.processes import Contained


class KubernetesBench:
    def __init__(self, folder: Path) -> None:
        self.meetings = Meetings(folder)
        self.server = KubernetesServer(folder, PYTHONPATH)
        self._patches = pytest.MonkeyPatch()
        # The client reads KUBECONFIG when it is imported.
        self._patches.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(self._kubeconfig(folder)))
        self.launcher = self.another()

    def another(self) -> KubernetesLauncher:
        return KubernetesLauncher(IMAGE, KubernetesServer.namespace)

    def start(self, name: str = NAME) -> Job:
        return self.run("drained", name=name)

    def run(self, *words: str, name: str = NAME, ready_text: str | None = None) -> Job:
        meeting = self.meetings.new()
        self.launcher.start(SmallJob((*words, "meet", str(meeting), "wait"), name, ready_text))
        meeting.read_text(encoding="utf-8")
        return found(self.launcher, name)

    def end(self, code: int) -> Job:
        self.launcher.start(SmallJob(("say", "first words", "say", "last words", "exit", str(code))))
        return self.ended()

    def ended(self, name: str = NAME) -> Job:
        """The job as found once its process is gone."""
        self.process(name).wait(SECONDS)
        return found(self.launcher, name)

    def process(self, name: str = NAME) -> Contained:
        process = self.server.newest(name).process
        assert process is not None
        return process

    def made(self) -> int:
        return len(self.server.made)

    def said(self, name: str = NAME) -> str:
        return self.process(name).said().decode()

    def lives(self, name: str = NAME) -> bool:
        return self.process(name).exit_code is None

    def go_away(self) -> None:
        self.server.close()

    def close(self) -> None:
        for pod in self.server.made:
            if pod.process is not None:
                pod.process.kill()
        self.server.close()
        self._patches.undo()

    def _kubeconfig(self, folder: Path) -> Path:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "clusters": [{"name": "test", "cluster": {"server": f"http://{self.server.address}"}}],
            "users": [{"name": "test", "user": {"token": "a-token"}}],
        }
        path = folder / "kubeconfig"
        path.write_text(json.dumps(config), encoding="utf-8")
        return path
