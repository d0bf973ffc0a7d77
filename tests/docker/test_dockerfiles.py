"""docker/*.Dockerfile: what they name exists, what they install is locked, and what they run is nobody's root."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import rejeu
from tests.fakes.broker import FakeBroker
from tests.fakes.expansion_service import GRADLE_TARGET
from tests.paths import ROOT

DOCKER = ROOT / "docker"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FILES = sorted(file.name.partition(".")[0] for file in DOCKER.glob("*.Dockerfile"))
MOUNTED = ("airflow", "emulators")
"""Their code is mounted by compose; the others carry the wheel."""


class Instruction(NamedTuple):
    """One line of a Dockerfile, continuations joined: `COPY`, and what follows."""

    verb: str
    rest: str

    @property
    def words(self) -> list[str]:
        return [word for word in self.rest.split() if not word.startswith("--")]


def read(image: str) -> list[Instruction]:
    lines = [line for line in (DOCKER / f"{image}.Dockerfile").read_text().splitlines() if not line.startswith("#")]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def rests(image: str, verb: str) -> list[str]:
    return [each.rest for each in read(image) if each.verb == verb]


def copied(image: str) -> list[str]:
    """The paths of the project that an image copies."""
    own = [each for each in read(image) if each.verb == "COPY" and "--from=" not in each.rest]
    return [source for each in own for source in each.words[:-1]]


def installs(image: str) -> list[str]:
    """Every installation of dependencies."""
    return [
        part
        for run in rests(image, "RUN")
        for part in run.split("&&")
        if "uv pip install" in part and ".whl" not in part
    ]


def extras(image: str) -> set[str]:
    return {extra for install in installs(image) for extra in re.findall(r"--extra (\w+)", install)}


def names_with_hashes(lock: Path) -> dict[str, int]:
    """How many hashes each pinned package of a lock file has."""
    entries = re.findall(r"^([\w.-]+)==\S+((?:.*\\\n.*--hash=sha256:[0-9a-f]{64})*)", lock.read_text(), re.MULTILINE)
    return {name: hashes.count("--hash") for name, hashes in entries}


def test_all_images_are_known() -> None:
    assert FILES == ["airflow", "beam", "emulators", "replay"]


@pytest.mark.parametrize("image", FILES)
def test_every_base_is_pinned(image: str) -> None:
    for base in rests(image, "FROM"):
        # A version, or the day and number of a release.
        assert re.search(r":(\d+\.\d+\.\d+[\w.-]*|\d{8}_RC\d\d)( AS \w+)?$", base), base


@pytest.mark.parametrize("image", FILES)
def test_python_is_the_one_that_the_project_needs(image: str) -> None:
    pythons = {base.split()[0] for base in rests(image, "FROM") if base.startswith("python:")}
    assert pythons == {"python:3.11.14-slim-bookworm"}
    assert PROJECT["requires-python"] == ">=3.11,<3.14"


def test_beams_boot_program_is_of_the_beam_that_we_install() -> None:
    (beam,) = (each for each in PROJECT["optional-dependencies"]["beam"] if each.startswith("apache-beam"))
    assert rests("beam", "FROM")[0] == f"apache/beam_python3.11_sdk:{beam.partition('==')[2]} AS sdk"


def test_the_template_runs_a_program_that_is_there_and_python_finds_the_rest() -> None:
    (environment,) = (each for each in rests("beam", "ENV") if "FLEX_TEMPLATE" in each)
    variables = dict(word.split("=", 1) for word in shlex.split(environment))
    program = Path(variables["FLEX_TEMPLATE_PYTHON_PY_FILE"])
    assert (ROOT / program.relative_to("/opt/venv/lib/python3.11/site-packages")).exists()
    refused = subprocess.run(
        [sys.executable, str(ROOT / "beam_jobs" / program.name), "--stream=web", "--runner=DataflowRunner"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert "required: --pipeline, --subscription" in refused.stderr


def test_what_describes_beams_steps_in_java_is_where_beam_looks_for_it() -> None:
    (environment,) = (each for each in rests("beam", "ENV") if "FLEX_TEMPLATE" in each)
    variables = dict(word.split("=", 1) for word in shlex.split(environment))
    (target, jar), *others = json.loads(variables["BEAM_SERVICE_OVERRIDES"]).items()
    assert (target, others) == (GRADLE_TARGET, [])
    (download,) = (each for each in rests("beam", "RUN") if "JavaJarServer" in each)
    assert GRADLE_TARGET in download
    assert f"'{jar}'" in download
    json.loads(download)


@pytest.mark.parametrize("image", FILES)
def test_a_container_is_not_root(image: str) -> None:
    # A number, which Kubernetes and Cloud Run can tell from root's; the same one owns the volumes that they share.
    assert rests(image, "USER") == ["10001"]
    assert "useradd --uid 10001" in rests(image, "RUN")[-1 if image in ("replay", "beam") else 0]


@pytest.mark.parametrize("image", FILES)
def test_signals_reach_the_program_itself(image: str) -> None:
    started = [each for each in read(image) if each.verb in ("ENTRYPOINT", "CMD")]
    assert len(started) == 1
    assert json.loads(started[0].rest)


@pytest.mark.parametrize("image", FILES)
def test_what_is_copied_exists_and_is_let_through(image: str) -> None:
    allowed = [
        line[1:].rstrip("/") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    ]
    for source in copied(image):
        assert (ROOT / source).exists()
        assert any(Path(source).is_relative_to(each) for each in allowed), source


@pytest.mark.parametrize("image", FILES)
def test_nothing_secret_and_nothing_foreign_gets_in(image: str) -> None:
    assert not rests(image, "ADD")
    assert not rests(image, "ARG")
    assert not [each for each in rests(image, "ENV") if re.search("PASSWORD|SECRET|TOKEN|CREDENTIAL", each)]
    assert not [source for source in copied(image) if re.search(r"\.env|\.json|^\.$", source)]


def test_only_what_an_image_copies_is_sent_to_the_builder() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    allowed = {line[1:].rstrip("/") for line in lines if line.startswith("!")}
    used = {source for image in FILES for source in copied(image)}
    assert all(any(Path(source).is_relative_to(each) for source in used) for each in allowed)


@pytest.mark.parametrize("image", FILES)
def test_every_dependency_comes_from_the_lock(image: str) -> None:
    assert len(installs(image)) == 1
    assert all("--constraint requirements.lock" in install for install in installs(image))
    assert extras(image) <= set(PROJECT["optional-dependencies"])
    assert {part for run in rests(image, "RUN") for part in re.findall(r"uv==[\d.]+", run)} == {"uv==0.13.9"}


@pytest.mark.parametrize("lock", [ROOT / "requirements.lock", DOCKER / "images.lock"], ids=lambda file: file.name)
def test_every_locked_package_has_hashes(lock: Path) -> None:
    found = names_with_hashes(lock)
    assert len(found) > 5
    assert not [name for name, hashes in found.items() if not hashes]


def test_what_only_images_need_is_locked_too() -> None:
    lines = (DOCKER / "images.in").read_text().splitlines()
    asked = {line.split()[0] for line in lines if not line.startswith("#")}
    assert asked <= set(names_with_hashes(DOCKER / "images.lock"))
    (install,) = installs("airflow")
    assert asked - set(install.split()) == {"hatchling"}


def test_an_image_has_what_its_programs_need_and_no_more() -> None:
    needed = {
        "airflow": {"airflow", "launchers", "replay", "beam"},
        "emulators": {"emulators", "replay"},
        "replay": {"replay"},
        "beam": {"beam"},
    }
    assert {image: extras(image) for image in FILES} == needed


@pytest.mark.parametrize("image", FILES)
def test_the_code_is_mounted_or_installed_and_never_both(image: str) -> None:
    assert ("plugins/rejeu" in copied(image)) is (image not in MOUNTED)
    assert any("/opt/rejeu/plugins" in each for each in rests(image, "ENV")) is (image in MOUNTED)


@pytest.mark.parametrize("image", [image for image in FILES if image not in MOUNTED])
def test_an_image_with_the_wheel_takes_along_what_stands_beside_the_specs(image: str, tmp_path: Path) -> None:
    last = len(read(image)) - [each.verb for each in reversed(read(image))].index("FROM")
    (copy,) = (each for each in read(image)[last:] if each.verb == "COPY" and "--from=" not in each.rest)
    source, there = copy.words
    (environment,) = (each for each in rests(image, "ENV") if "REJEU_EXTENSIONS" in each)
    variables = dict(word.split("=", 1) for word in shlex.split(environment))
    assert (source, there) == ("dags/streams", variables["REJEU_EXTENSIONS"])
    beside = tmp_path / "extensions"
    shutil.copytree(ROOT / source, beside)
    (beside / "mine.py").write_text("from rejeu.target import LauncherKind\nLAUNCHER = LauncherKind(print)\n")
    look = "from rejeu.target import LAUNCHERS; print(*LAUNCHERS, LAUNCHERS['mine'].make is print)"
    surroundings = {"PATH": os.environ["PATH"]}
    own = run([sys.executable, "-c", look.partition(",")[0] + ")"], env=surroundings).split()
    found = run([sys.executable, "-c", look], env=surroundings | {"REJEU_EXTENSIONS": str(beside)}).split()
    assert found == [*sorted([*own, "mine"]), "True"]


def test_the_replay_is_what_its_container_runs_and_checks() -> None:
    (entrypoint,), (check,) = rests("replay", "ENTRYPOINT"), rests("replay", "HEALTHCHECK")
    for command in (entrypoint, check.partition("CMD ")[2]):
        python, flag, module = json.loads(command)
        assert (python, flag) == ("python", "-m")
        assert importlib.util.find_spec(module) is not None


def test_the_wheel_that_the_images_build_runs_the_replay(tmp_path: Path) -> None:
    (build,) = (run.partition(" && ")[0] for run in rests("replay", "RUN") if "uv build" in run)
    words = build.replace("images.lock", str(DOCKER / "images.lock")).replace("/dist", str(tmp_path / "dist")).split()
    # The builder's cache is a layer of its own; here the machine's is shared.
    words.remove("--no-cache")
    run([*uv(), *words[1:], "--python", sys.executable], cwd=ROOT)
    run([*uv(), "venv", "--python", sys.executable, str(tmp_path / "venv")])
    python = tmp_path / "venv/bin/python"
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    lock = str(ROOT / "requirements.lock")
    run([*uv(), "pip", "install", "--constraint", lock, "--python", str(python), f"{wheel}[replay]"])
    rows = tmp_path / "mine.parquet"
    pq.write_table(pa.table({"happened_at": pa.array([1, 2, 3], pa.timestamp("s", tz="UTC"))}), rows)
    with FakeBroker() as broker:
        surroundings = {"PATH": os.environ["PATH"], "PUBSUB_EMULATOR_HOST": broker.address}
        flags = [f"--file={rows}", "--event-time=happened_at", "--topic=projects/rejeu-test/topics/t", "--speed=max"]
        run([str(python), "-m", "rejeu.replay", *flags], cwd=tmp_path, env=surroundings)
        assert len(broker.bodies) == 3
    where = run(
        [str(python), "-c", "import rejeu; print(rejeu.__file__, rejeu.__version__)"], cwd=tmp_path, env=surroundings
    )
    assert where.startswith(str(tmp_path))
    assert where.split()[1] == rejeu.__version__ == PROJECT["version"]


def uv() -> list[str]:
    return [str(Path(sys.executable).with_name("uv"))]


def run(command: list[str], cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout
