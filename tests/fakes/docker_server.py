"""The part of the Docker Engine API that our launcher uses, on a port; its containers are processes of this machine.

It refuses what the engine refuses: a name that is taken, an image it does not have, to remove what runs.
"""

from __future__ import annotations

import json
import secrets
import struct
import threading
from pathlib import Path
from typing import Any

from tests.fakes.processes import Contained
from tests.fakes.rest import Answer, Call, Refusal, RestServer

IMAGE = "rejeu-replay:test"


class Container:
    """A container, made and perhaps started."""

    def __init__(self, name: str, config: dict[str, Any]) -> None:
        self.id = secrets.token_hex(32)
        self.name = name
        self.config = config
        self.process: Contained | None = None
        self.out_of_memory = False
        self.readable = True

    @property
    def status(self) -> str:
        if self.process is None:
            return "created"
        return "running" if self.process.exit_code is None else "exited"

    def inspect(self) -> dict[str, Any]:
        code = (self.process and self.process.exit_code) or 0
        return {
            "Id": self.id,
            "Name": f"/{self.name}",
            "Config": {name: self.config.get(name) for name in ("Labels", "Image", "Cmd")} | {"Tty": False},
            "HostConfig": {"LogConfig": {"Type": "json-file"}},
            "State": {"Status": self.status, "ExitCode": code, "OOMKilled": self.out_of_memory},
        }


class DockerServer(RestServer):
    """An engine with one image, whose containers find the modules of `python_path`."""

    type_of_bytes = "application/vnd.docker.multiplexed-stream"

    def __init__(self, folder: Path, python_path: str) -> None:
        self._folder = folder
        self._python_path = python_path
        self._lock = threading.RLock()
        self.containers: list[Container] = []
        self.made: list[Container] = []
        one = r"/v[\d.]+/containers/(?P<id>[^/]+)"
        super().__init__(
            [
                ("GET", "/version", lambda _: {"ApiVersion": "1.47"}),
                ("POST", r"/v[\d.]+/containers/create", self._create),
                ("GET", r"/v[\d.]+/containers/json", self._list),
                ("GET", f"{one}/json", lambda call: self._get(call).inspect()),
                ("GET", f"{one}/logs", self._logs),
                ("POST", f"{one}/start", self._start),
                ("POST", f"{one}/stop", self._stop),
                ("POST", f"{one}/rename", self._rename),
                ("DELETE", one, self._remove),
            ]
        )

    def newest(self, job: str) -> Container:
        return next(each for each in reversed(self.made) if each.config["Labels"]["rejeu.job"] == job)

    def _get(self, call: Call) -> Container:
        asked = call.parts["id"]
        for container in self.containers:
            if asked in (container.id, container.name):
                return container
        raise Refusal(404, {"message": f"No such container: {asked}"})

    def _take(self, name: str) -> None:
        for container in self.containers:
            if container.name == name:
                taken = f'The container name "/{name}" is already in use by container "{container.id}".'
                raise Refusal(409, {"message": f"Conflict. {taken}"})

    def _create(self, call: Call) -> Answer:
        if call.body["Image"] != IMAGE:
            raise Refusal(404, {"message": f"No such image: {call.body['Image']}"})
        with self._lock:
            self._take(call.query["name"])
            container = Container(call.query["name"], call.body)
            self.containers.append(container)
            self.made.append(container)
        return {"Id": container.id, "Warnings": []}

    def _list(self, call: Call) -> Answer:
        [wanted] = json.loads(call.query["filters"])["label"]
        labelled = [
            each
            for each in self.containers
            if wanted in [*each.config["Labels"], *(f"{k}={v}" for k, v in each.config["Labels"].items())]
        ]
        return [
            {"Id": each.id, "Names": [f"/{each.name}"], "Labels": each.config["Labels"], "State": each.status}
            for each in reversed(labelled)
            if call.query["all"] == "1" or each.status == "running"
        ]

    def _start(self, call: Call) -> Answer:
        container = self._get(call)
        with self._lock:
            if container.status == "running":
                raise Refusal(304)
            config = container.config
            environment = {"PYTHONPATH": self._python_path} | dict(
                each.split("=", 1) for each in config.get("Env") or ()
            )
            command = [*config["Entrypoint"], *(config.get("Cmd") or ())]
            log = self._folder / f"{container.id}.log"
            try:
                container.process = Contained(command, environment, log, ended=lambda: None)
            except FileNotFoundError:
                missing = f'exec: "{command[0]}": executable file not found in $PATH'
                raise Refusal(400, {"message": f"failed to create task for container: {missing}"}) from None
        return None

    def _stop(self, call: Call) -> Answer:
        container = self._get(call)
        if container.process is None or container.process.exit_code is not None:
            raise Refusal(304)
        container.process.terminate(float(call.query["t"]))
        return None

    def _rename(self, call: Call) -> Answer:
        container = self._get(call)
        with self._lock:
            self._take(call.query["name"])
            container.name = call.query["name"]
        return None

    def _remove(self, call: Call) -> Answer:
        with self._lock:
            container = self._get(call)
            if container.status == "running":
                if call.query.get("force") != "True":
                    running = f"cannot remove container {container.id}: container is running"
                    raise Refusal(409, {"message": f"{running}: stop the container before removing or force remove"})
                assert container.process is not None
                container.process.kill()
            self.containers.remove(container)
        return None

    def _logs(self, call: Call) -> Answer:
        """Framed, as for a container without a terminal: a line's stream and length before each line."""
        container = self._get(call)
        if not container.readable:
            raise Refusal(501, {"message": "configured logging driver does not support reading"})
        lines = container.process.said().splitlines(keepends=True) if container.process else []
        if call.query["tail"] != "all":
            lines = lines[-int(call.query["tail"]) :]
        return b"".join(struct.pack(">BxxxL", 1, len(line)) + line for line in lines)
