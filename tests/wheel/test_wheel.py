"""The wheel as a stranger installs it: no checkout, a folder of their own, and every program that Rejeu starts.

The environment has the wheel and, so that this takes seconds, the libraries of the environment that the tests run in.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rejeu.cli.folders import examples
from tests.fakes.broker import FakeBroker
from tests.paths import ROOT

UV = str(Path(sys.executable).with_name("uv"))
JOBS = ("beam_jobs.stream", "beam_jobs.batch", "beam_jobs.reconcile", "beam_jobs.template", "rejeu.replay")
"""What launchers start: each says which arguments it needs."""
SERVERS = ("metadata", "open-data", "storage")
"""The quick ones of the local stack."""
UP = """
import json, sys
from pathlib import Path
from rejeu.local.stack.stack import Stack
stack = Stack(Path("dags"), Path("home"))
try:
    stack.up(parts=sys.argv[1:])
    print(json.dumps({part.part: part.state for part in stack.status()}))
finally:
    stack.down()
"""


class Installed:
    """A folder of somebody's own, and the wheel in an environment beside it."""

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder, self._python = folder, python

    def run(self, *command: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Python with these arguments, far from the checkout."""
        surroundings = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return subprocess.run(
            [str(self._python), *command],
            cwd=self.folder,
            env=surroundings | (env or {}),
            capture_output=True,
            text=True,
            check=False,
        )

    def rejeu(self, *command: str) -> subprocess.CompletedProcess[str]:
        return self.run(str(self._python.with_name("rejeu")), *command)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [UV, "build", "--quiet", "--wheel", "--python", sys.executable, "--out-dir", str(out)], cwd=ROOT, check=True
    )
    (wheel,) = out.glob("*.whl")
    return wheel


def environment(folder: Path, wheel: Path, *options: str) -> Path:
    """A new one with the wheel; its Python."""
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    python = folder / "bin" / "python"
    subprocess.run([UV, "pip", "install", "--quiet", *options, "--python", str(python), str(wheel)], check=True)
    return python


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Installed:
    """With the libraries of `rejeu[local]`, and neither the checkout nor its editable installation."""
    venv = tmp_path_factory.mktemp("whole") / "venv"
    python = environment(venv, wheel, "--no-deps")
    # Of a folder that a .pth file names, no further .pth file is read: not the one of the editable installation.
    (venv / "lib/python3.11/site-packages/lock.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return Installed(tmp_path_factory.mktemp("own"), python)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Installed:
    """With what `pip install rejeu` brings, and no extra."""
    python = environment(
        tmp_path_factory.mktemp("bare") / "venv", wheel, "--constraint", str(ROOT / "requirements.lock")
    )
    return Installed(tmp_path_factory.mktemp("bare-own"), python)


def test_it_is_the_wheel_that_runs(installed: Installed) -> None:
    found = installed.run("-c", "import rejeu, beam_jobs, spark_jobs; print(rejeu.__file__, beam_jobs.__file__)").stdout
    assert len(found.split()) == 2
    assert str(ROOT) not in found


@pytest.mark.parametrize("module", JOBS)
def test_every_job_that_a_launcher_starts_is_there(module: str, installed: Installed) -> None:
    ended = installed.run("-m", module)
    assert (ended.returncode, "required: --" in ended.stderr) == (2, True), ended.stderr


def test_every_program_of_the_wheel_is_found_with_all_it_imports(installed: Installed) -> None:
    folder = ROOT / "plugins"
    programs = [
        ".".join(file.relative_to(folder).with_suffix("").parts)
        for file in sorted((folder / "rejeu").rglob("*.py"))
        if re.search(r"^if __name__ == ", file.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert {"rejeu.local.demos.__main__", "rejeu.local.servers.metadata", "rejeu.cli.__main__"} <= set(programs)
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    ended = installed.run("-c", code, *programs)
    assert ended.returncode == 0, ended.stderr


def test_where_there_is_no_spec_it_says_so(installed: Installed) -> None:
    ended = installed.rejeu("validate")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "dags/streams holds no spec: name files, or a folder with --dags" in " ".join(ended.stderr.split())


def test_a_stream_is_begun_checked_and_replayed(installed: Installed) -> None:
    rows = installed.folder / "mine.parquet"
    instants = pa.array(range(1_600_000_000, 1_600_000_003), pa.timestamp("s", tz="UTC"))
    pq.write_table(pa.table({"happened_at": instants, "number": [1, 2, 3]}), rows)
    begun = installed.rejeu("new", "mine", "--file", rows.name)
    assert begun.returncode == 0, begun.stderr
    written = installed.folder / "dags"
    assert {file.name for file in written.rglob("*.*")} == {"streams.py", "patrol.py", "mine.yaml"}
    assert (written / "streams.py").read_text() == (ROOT / "dags" / "streams.py").read_text()
    assert installed.rejeu("validate").stdout == "dags/streams/mine.yaml: ok\n"
    with FakeBroker() as broker:
        flags = (f"--file={rows}", "--event-time=happened_at", "--topic=projects/rejeu-test/topics/t", "--speed=max")
        ended = installed.run("-m", "rejeu.cli", "replay", *flags, env={"PUBSUB_EMULATOR_HOST": broker.address})
        assert (ended.returncode, len(broker.bodies)) == (0, 3), ended.stderr


def test_the_examples_come_along(installed: Installed) -> None:
    code = "from rejeu.cli.folders import examples; print(examples())"
    folder = Path(installed.run("-c", code).stdout.strip())
    assert not folder.is_relative_to(ROOT)
    packed = {file.name: file.read_bytes() for file in (folder / "streams").glob("*.yaml")}
    assert packed == {file.name: file.read_bytes() for file in (examples() / "streams").glob("*.yaml")}
    assert installed.rejeu("validate", "--dags", str(folder)).returncode == 0


def test_the_dag_file_makes_their_dags(installed: Installed) -> None:
    code = "from rejeu.airflow.loader import load_dags; from rejeu.cli.folders import examples\n"
    code += "print(len([dag.dag_id for dag in load_dags(str(examples() / 'streams.py'))]))"
    environment = {"AIRFLOW_HOME": str(installed.folder / "airflow"), "REJEU_PROJECT": "rejeu-test"}
    ended = installed.run("-c", code, env=environment)
    assert int(ended.stdout.split()[-1]) > 20, ended.stderr


def test_the_servers_of_the_local_stack_come_up(installed: Installed) -> None:
    ended = installed.run("-c", UP, *SERVERS)
    assert ended.returncode == 0, ended.stderr
    states = json.loads(ended.stdout.splitlines()[-1])
    assert {name: states[name] for name in SERVERS} == dict.fromkeys(SERVERS, "running")


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("up",), "pip install 'rejeu[local]'"),
        (("demo",), "pip install 'rejeu[local]'"),
        (("new", "mine", "--file", "mine.parquet"), "pip install 'rejeu[replay]'"),
        (("incidents",), "pip install 'rejeu["),
        (("replay", "--help"), "pip install 'rejeu[replay]'"),
    ],
)
def test_without_extras_a_command_says_in_one_sentence_which_it_needs(
    command: tuple[str, ...], told: str, bare: Installed
) -> None:
    ended = bare.rejeu(*command)
    assert ended.returncode == 1, ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert told in ended.stderr


def test_without_extras_specs_are_checked(bare: Installed) -> None:
    assert bare.rejeu("validate").returncode == 2
    assert json.loads(bare.rejeu("schema").stdout)["title"]
