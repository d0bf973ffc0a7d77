"""The rig of the Kubernetes launcher: a cluster whose pods are processes of this machine."""

from __future__ import annotations

import json
from pathlib import Path

from kubernetes.config import kube_config

from rejeu.launchers.kubernetes import KubernetesLauncher
from tests.fakes.kubernetes_server import IMAGE, KubernetesServer
from tests.launchers.rigs.containers import ContainersRig
from tests.launchers.rigs.rig import PYTHONPATH


class KubernetesRig(ContainersRig):
    server: KubernetesServer

    def serve(self, folder: Path) -> KubernetesServer:
        server = KubernetesServer(folder, PYTHONPATH)
        # The client reads KUBECONFIG when it is imported.
        self._patches.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(_kubeconfig(server, folder)))
        return server

    def another(self) -> KubernetesLauncher:
        return KubernetesLauncher(IMAGE, KubernetesServer.namespace)


def _kubeconfig(server: KubernetesServer, folder: Path) -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": f"http://{server.address}"}}],
        "users": [{"name": "test", "user": {"token": "a-token"}}],
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path
