"""Which launcher a target gets: Rejeu's own, or one of somebody else's that stands beside the specs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rejeu import extensions
from rejeu.errors import RequestError
from rejeu.launchers.choose import job_launcher, replay_launcher
from rejeu.launchers.cloud_run import CloudRunLauncher
from rejeu.launchers.dataflow import DataflowLauncher
from rejeu.launchers.docker import DockerLauncher
from rejeu.launchers.kubernetes import KubernetesLauncher
from rejeu.launchers.process import ProcessLauncher
from rejeu.launchers.split import SplitLauncher
from rejeu.launchers.vertex_ai import VertexLauncher
from rejeu.target import EMULATORS, LAUNCHERS, LauncherKind, Target, launchers_for
from rejeu.testing import FakeLauncher, registered

MINE = """
from rejeu.target import LauncherKind
from rejeu.testing import FakeLauncher

def make(target, environment):
    launcher = FakeLauncher()
    launcher.place = environment["MINE_PLACE"], target.home
    return launcher

LAUNCHER = LauncherKind(make, needs=("alerts",), starts_streams=True)
"""


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], Path]]:
    """Puts a module beside the specs."""
    monkeypatch.setattr(extensions, "__path__", [])
    monkeypatch.setattr(LAUNCHERS, "loaded", LAUNCHERS.loaded.copy())

    def put(name: str, text: str) -> Path:
        file = tmp_path / name
        file.write_text(text, encoding="utf-8")
        extensions.look_in(tmp_path)
        return file

    yield put
    for name in [name for name in sys.modules if name.startswith("rejeu.extensions.")]:
        del sys.modules[name]


def target(folder: Path, **given: str) -> Target:
    return Target.from_env({"REJEU_PROJECT": "rejeu-test", "REJEU_HOME": str(folder)} | given)


def test_a_launcher_beside_the_specs_is_chosen_with_settings_of_its_own(
    beside: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside("my_place.py", MINE)
    monkeypatch.setenv("MINE_PLACE", "the cellar")
    chosen = target(tmp_path, REJEU_LAUNCHER="my-place", REJEU_JOBS="my-place", REJEU_ALERTS="a")
    assert replay_launcher(chosen).place == ("the cellar", tmp_path)  # type: ignore[attr-defined]
    launcher = job_launcher(chosen)
    assert isinstance(launcher, SplitLauncher)
    assert (type(launcher.streams), type(launcher.others)) == (FakeLauncher, ProcessLauncher)


@pytest.mark.parametrize("field", ["LAUNCHER", "JOBS"])
def test_what_it_needs_is_asked_for_too(beside: Callable[[str, str], Path], tmp_path: Path, field: str) -> None:
    beside("mine.py", MINE)
    with pytest.raises(RequestError, match=f"REJEU_{field}: it is 'mine': set REJEU_ALERTS too"):
        target(tmp_path, **{f"REJEU_{field}": "mine"})


def test_one_that_is_broken_harms_only_the_target_that_names_it(
    beside: Callable[[str, str], Path], tmp_path: Path
) -> None:
    file = beside("mine.py", MINE.replace("rejeu.testing", "no_such_library"))
    assert launchers_for("jobs") == ["dataflow", "process"]
    assert isinstance(replay_launcher(target(tmp_path)), ProcessLauncher)
    with pytest.raises(RequestError) as caught:
        target(tmp_path, REJEU_LAUNCHER="mine")
    reason = "cannot be imported (ModuleNotFoundError: No module named 'no_such_library')"
    assert str(caught.value).startswith(f"REJEU_LAUNCHER: it is 'mine': {file} {reason}; mend it, or install")


def test_one_that_needs_what_no_target_has_is_refused(beside: Callable[[str, str], Path], tmp_path: Path) -> None:
    beside("mine.py", MINE.replace("alerts", "moon"))
    with pytest.raises(
        RequestError, match=r"mine\.py cannot be imported \(ValueError: needs has 'moon': a target has p"
    ):
        target(tmp_path, REJEU_LAUNCHER="mine")


def test_a_test_may_put_in_a_launcher_of_its_own(tmp_path: Path) -> None:
    fake = FakeLauncher()
    with registered(LAUNCHERS, "fake", LauncherKind(lambda target, environment: fake)):
        assert replay_launcher(target(tmp_path, REJEU_LAUNCHER="fake")) is fake
    assert "fake" not in LAUNCHERS


CLOUD = {
    "REJEU_IMAGE": "i",
    "REJEU_JOBS_IMAGE": "j",
    "REJEU_BUCKET": "b",
    "REJEU_REGION": "europe-west1",
    "REJEU_STATE": "gs://b/s",
}
LIMITED = CLOUD | {"REJEU_CPU": "0.5", "REJEU_MEMORY": "512Mi"}


def test_a_container_may_use_what_the_target_says(tmp_path: Path) -> None:
    docker = replay_launcher(target(tmp_path, REJEU_LAUNCHER="docker", **LIMITED))
    assert isinstance(docker, DockerLauncher)
    assert (docker._cpu, docker._memory) == (0.5, "512Mi")
    pods = replay_launcher(target(tmp_path, REJEU_LAUNCHER="kubernetes", **LIMITED))
    assert isinstance(pods, KubernetesLauncher)
    amounts = {"cpu": "0.5", "memory": "512Mi"}
    assert pods._resources == {"requests": amounts, "limits": amounts}
    run = replay_launcher(target(tmp_path, REJEU_LAUNCHER="cloud-run", **LIMITED))
    assert isinstance(run, CloudRunLauncher)
    assert (run.cpu, run.memory) == ("0.5", "512Mi")


def test_a_container_is_told_the_emulators_and_finds_extensions_in_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REJEU_EXTENSIONS", "/a/folder/of/this/machine")
    for name in EMULATORS:
        monkeypatch.setenv(name, "here:1")
    here = replay_launcher(target(tmp_path, REJEU_LAUNCHER="docker", REJEU_IMAGE="i", REJEU_STATE="gs://b/s"))
    assert isinstance(here, DockerLauncher)
    assert here._environment == dict.fromkeys(EMULATORS, "here:1")
    there = replay_launcher(target(tmp_path, REJEU_LAUNCHER="cloud-run", **CLOUD))
    assert isinstance(there, CloudRunLauncher)
    assert there.environment == {}


@pytest.mark.parametrize(
    ("name", "kind"),
    [("cloud-run", CloudRunLauncher), ("kubernetes", KubernetesLauncher), ("vertex-ai", VertexLauncher)],
)
def test_jobs_that_end_by_themselves_run_beside_replays_in_an_image_of_their_own(
    tmp_path: Path, name: str, kind: type[Any]
) -> None:
    cloud = target(tmp_path, REJEU_LAUNCHER=name, REJEU_JOBS="dataflow", REJEU_TEMPLATE="gs://b/t.json", **CLOUD)
    launcher = job_launcher(cloud)
    assert isinstance(launcher, SplitLauncher)
    assert isinstance(launcher.streams, DataflowLauncher)
    assert isinstance(launcher.others, kind)
    assert image_of(launcher.others) == "j"
    assert image_of(replay_launcher(cloud)) == "i"


@pytest.mark.parametrize("name", ["process", "docker"])
def test_where_replays_run_on_this_machine_so_do_those_jobs(tmp_path: Path, name: str) -> None:
    assert isinstance(job_launcher(target(tmp_path, REJEU_LAUNCHER=name, **CLOUD)), ProcessLauncher)


def image_of(launcher: Any) -> str:
    """The image that it starts."""
    return str(vars(launcher).get("image") or vars(launcher)["_image"])
