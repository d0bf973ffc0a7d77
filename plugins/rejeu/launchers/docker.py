"""A launcher of containers on the Docker engine that the environment names (DOCKER_HOST, as for `docker`).

The container's name is the lock: the engine refuses a second container of that name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rejeu.errors import LaunchError, translated
from rejeu.launchers.names import ALL_JOBS, short_name
from rejeu.launchers.waiting import look_until
from rejeu.ports import Job, JobRequest, JobState
from rejeu.target import EMULATORS, LauncherKind, Target

# docker is imported where it is first used: a launcher is made in the triggerer's event loop, which must not wait.
if TYPE_CHECKING:
    from docker.client import DockerClient
    from docker.models.containers import Container

DRAIN_SECONDS = 30
ATTEMPTS = 5
"""How often a starter tries while others are faster."""
NAME_LIMIT = 63
"""A container's name is also its host name on a network."""

NAME_LABEL = "rejeu.job"
READY_LABEL = "rejeu.ready-text"

# Labels never change, but names do: a job's container is renamed when it is asked to end, which records that.
SCRATCH = "/tmp"
"""The one place that a job may write to beside its volumes: a volume without a name, which goes with the container. Not
a tmpfs, for rows that are sorted there may be more than memory holds."""
PROCESS_LIMIT = 512

STOPPED_SUFFIX = ".stopped-"
ENDED_STATUS = ("exited", "dead", "removing")


class DockerLauncher:
    """Runs `python -m <module> <argv>` in a container of `image`, which is kept to tell how it ended.

    `volumes` are written as for `docker run`, host:container[:ro]; `user` is a user that may write to them, if the
    image's own user may not. It may write to those, and to /tmp, and to nothing else.
    """

    def __init__(
        self,
        image: str,
        environment: Mapping[str, str] | None = None,
        network: str | None = None,
        volumes: Sequence[str] = (),
        user: str | None = None,
        cpu: str = "1",
        memory: str = "2Gi",
    ) -> None:
        self._image = image
        self._environment = dict(environment or {})
        self._network = network
        self._volumes = list(volumes)
        self._user = user
        self._cpu, self._memory = float(cpu), memory

    def start(self, request: JobRequest) -> Job:
        name = request.job_name
        with _asking(name):
            for _ in range(ATTEMPTS):
                container = self._newest(name)
                if container is None or _ended(container):
                    container = self._replace(request)
                if container is not None:
                    return _run(container)
        raise LaunchError(
            f"{name} was not started: its name is taken, by a foreign container or by others that start it right now. "
            "See docker ps --all"
        )

    def find(self, name: str) -> Job | None:
        with _asking(name):
            container = self._newest(name)
            return None if container is None else _describe(container)

    def find_active(self, names: Collection[str]) -> dict[str, Job]:
        with _asking(ALL_JOBS):
            listed = self._client.api.containers(all=True, filters={"label": NAME_LABEL})
        jobs = [_summary(each) for each in listed if each["State"] not in ENDED_STATUS]
        return {job.name: job for job in jobs if job.name in names}

    def stop(self, name: str, *, drain: bool = True) -> Job | None:
        with _asking(name):
            container = self._newest(name)
            if container is None:
                return None
            if container.status == "created":  # it has never run
                container.remove(force=True, v=True)
                return None
            if not _ended(container):
                _end(container, drain)
        return self.find(name)

    @cached_property
    def _client(self) -> DockerClient:
        from docker.client import DockerClient

        return DockerClient.from_env()

    def _containers(self, name: str) -> list[Container]:
        """All containers of this job, the newest first."""
        labelled = {"label": f"{NAME_LABEL}={name}"}
        containers: list[Container] = self._client.containers.list(all=True, ignore_removed=True, filters=labelled)
        return containers

    def _newest(self, name: str) -> Container | None:
        return next(iter(self._containers(name)), None)

    def _replace(self, request: JobRequest) -> Container | None:
        """Replace the ended containers by a new one; None where another starter was faster."""
        from docker.errors import APIError

        for container in self._containers(request.job_name):
            if _ended(container):
                with suppress(APIError):  # another starter removes it
                    container.remove(v=True)
        labels = {NAME_LABEL: request.job_name}
        if request.ready_text is not None:
            labels[READY_LABEL] = request.ready_text
        try:
            return self._client.containers.create(
                self._image,
                name=short_name(request.job_name, NAME_LIMIT),
                entrypoint=["python", "-m", request.module],
                command=list(request.to_argv()),
                environment=self._environment,
                network=self._network,
                volumes=[*self._volumes, SCRATCH],
                user=self._user,
                labels=labels,
                init=True,
                restart_policy={"Name": "no"},
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                read_only=True,
                nano_cpus=int(self._cpu * 1e9),
                # Docker writes 2G for what is 2Gi elsewhere; without the second it may swap as much again.
                mem_limit=self._memory.removesuffix("i"),
                memswap_limit=self._memory.removesuffix("i"),
                pids_limit=PROCESS_LIMIT,
            )
        except APIError as error:
            if error.status_code == 409:
                return None
            raise


def _run(container: Container) -> Job:
    """Start the container, even if another starter created it and died; starting a running one changes nothing."""
    from docker.errors import APIError

    if container.status == "created":
        try:
            container.start()
        except APIError:
            with suppress(APIError):  # another starter was faster, and it runs
                container.remove(v=True)
            raise
        container.reload()
    return _describe(container)


def _end(container: Container, drain: bool) -> None:
    from docker.errors import NotFound

    with suppress(NotFound):  # it has ended and been removed by the starter of the next one
        if drain and STOPPED_SUFFIX in container.name:
            # A second SIGTERM could break off what the first one began.
            look_until(lambda: _has_ended(container), DRAIN_SECONDS)
            container.stop(timeout=0)
            return
        # Before the signal: a starter must not adopt what is about to end.
        _note_stop(container)
        container.stop(timeout=DRAIN_SECONDS if drain else 0)


def _has_ended(container: Container) -> bool | None:
    container.reload()
    return _ended(container) or None


def _note_stop(container: Container) -> None:
    from docker.errors import APIError

    if STOPPED_SUFFIX in container.name:
        return
    try:
        container.rename(f"{container.name}{STOPPED_SUFFIX}{container.short_id}")
    except APIError as error:
        if error.status_code != 409:  # else somebody else stops it, too, and was faster
            raise


def _ended(container: Container) -> bool:
    return container.status in ENDED_STATUS


def _summary(listed: dict[str, Any]) -> Job:
    """A job that has not ended, as the list of containers shows it."""
    state = JobState.STARTING if listed["State"] == "created" else JobState.RUNNING
    if any(STOPPED_SUFFIX in name for name in listed["Names"]):
        state = JobState.DRAINING
    return Job(listed["Labels"][NAME_LABEL], listed["Id"], state, f"container {listed['Id'][:12]}")


def _describe(container: Container) -> Job:
    state, detail = _state_of(container)
    argv = tuple(container.attrs["Config"].get("Cmd") or ())
    return Job(container.labels[NAME_LABEL], container.id, state, detail, argv=argv)


def _state_of(container: Container) -> tuple[JobState, str]:
    """Where the job is, and what a person should know of it."""
    state, where = container.attrs["State"], f"container {container.short_id}"
    if container.status == "created":
        return JobState.STARTING, where
    if not _ended(container):
        if STOPPED_SUFFIX in container.name:
            return JobState.DRAINING, where
        return JobState.RUNNING if _is_ready(container) else JobState.STARTING, where
    code = state["ExitCode"]
    if code == 0:
        return JobState.SUCCEEDED, where
    if STOPPED_SUFFIX in container.name:
        return JobState.STOPPED, where
    why = "out of memory" if state.get("OOMKilled") else " | ".join(_last_lines(container))
    return JobState.FAILED, f"exit code {code}: {why} ({where})"


def _is_ready(container: Container) -> bool:
    text = container.labels.get(READY_LABEL)
    return text is None or text.encode() in container.logs()


def _last_lines(container: Container) -> list[str]:
    from docker.errors import APIError

    try:
        said: bytes = container.logs(tail=3)
    except APIError:  # its logging driver cannot be read
        return []
    return said.decode(errors="replace").strip().splitlines()


def _asking(name: str) -> AbstractContextManager[None]:
    from docker.errors import APIError, DockerException, ImageNotFound
    from requests import RequestException

    return translated(
        LaunchError,
        f"{name} cannot be managed by Docker",
        (ImageNotFound, "build the image, or docker pull it"),
        (APIError, "see docker info and docker events"),
        ((DockerException, RequestException), "start Docker, or set DOCKER_HOST to its address"),
        why=_why,
    )


def _why(error: Exception) -> str:
    return str(getattr(error, "explanation", None) or error)


def _make(target: Target, environment: Mapping[str, str]) -> DockerLauncher:
    emulators = {name: environment[name] for name in EMULATORS if name in environment}
    return DockerLauncher(target.image, emulators, target.network or None, cpu=target.cpu, memory=target.memory)


LAUNCHER = LauncherKind(_make, needs=("image",), elsewhere=True, hands_on=EMULATORS)
