"""A simulator of somebody else's: found beside the specs by whoever checks, parses and replays, and not before."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from rejeu import cli, extensions
from rejeu.launchers.process import ProcessLauncher
from rejeu.spec.files import load_specs
from rejeu.spec.generators import GENERATORS
from rejeu.target import Target
from tests.fakes.broker import FakeBroker

ORDERS: Final = """
import pandas as pd
import pyarrow as pa

from rejeu.replay.source.generators.base import Generator, Positive, arrow_schema
from rejeu.spec.columns import Column
from rejeu.spec.generators import GeneratorKind


class Orders(Generator):
    columns = (Column("at", "TIMESTAMP"), Column("number", "INT64"))
    every: Positive = 60.0

    def tables(self, from_us=None):
        times = pd.date_range("2026-01-01", periods=100, freq=f"{self.every:g}s", tz="UTC")
        frame = pd.DataFrame({"at": times, "number": range(100)})
        yield pa.Table.from_pandas(frame, arrow_schema(self.columns), preserve_index=False)


GENERATOR = GeneratorKind(Orders)
"""
SPEC: Final = """
stream: made_orders
event_time: at
live: {topic: made-orders, table: shop.orders}
replay: {source: {generator: "orders:every=1"}, speed: max}
"""


@pytest.fixture
def streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a spec, and the simulator that it names."""
    folder = tmp_path / "dags" / "streams"
    folder.mkdir(parents=True)
    (folder / "orders.py").write_text(ORDERS)
    (folder / "made_orders.yaml").write_text(SPEC)
    monkeypatch.setattr(extensions, "__path__", [])
    yield folder
    GENERATORS.loaded.pop("orders", None)
    for name in [name for name in sys.modules if name.startswith("rejeu.extensions.")]:
        del sys.modules[name]


def test_it_is_valid(streams: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["validate", str(streams / "made_orders.yaml")]) == 0
    assert capsys.readouterr().out == f"{streams}/made_orders.yaml: ok\n"


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("ordres", "replay.source.generator: it is 'ordres': it must be one of clickstream, iot_sensors, "),
        ("orders:evry=1", "replay.source: --generator orders: evry: Extra inputs are not permitted; options: every."),
    ],
)
def test_a_wrong_name_and_a_wrong_option_are_told_by_validate(
    streams: Path, capsys: pytest.CaptureFixture[str], named: str, said: str
) -> None:
    (streams / "made_orders.yaml").write_text(SPEC.replace("orders:every=1", named))
    assert cli.main(["validate", str(streams / "made_orders.yaml")]) == 2
    assert said in capsys.readouterr().err


def test_one_that_cannot_be_imported_is_told_with_its_file_and_why(
    streams: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (streams / "orders.py").write_text(f"import no_such_library\n{ORDERS}")
    assert cli.main(["validate", str(streams / "made_orders.yaml")]) == 2
    said = capsys.readouterr().err
    assert f"--generator is 'orders': {streams}/orders.py cannot be imported" in said
    assert "no_such_library" in said


def test_a_spec_that_names_it_is_read_without_importing_it_or_arrow(streams: Path) -> None:
    look = (
        "import sys; from pathlib import Path; from rejeu.spec.files import load_specs;"
        "[loaded] = load_specs([Path(sys.argv[1])]); assert loaded.spec, loaded.error;"
        "print([name for name in ('rejeu.extensions.orders', 'pandas', 'numpy', 'pyarrow') if name in sys.modules])"
    )
    command = [sys.executable, "-c", look, str(streams)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_dags_are_made_of_a_spec_that_names_it(streams: Path) -> None:
    from rejeu.airflow import loader

    dags = loader.build_all(load_specs([streams]), Target(project="rejeu-test"))
    assert {dag.dag_id for dag in dags} >= {"made_orders.live", "made_orders.watchdog"}


@pytest.mark.slow
def test_a_process_replays_it(streams: Path, tmp_path: Path, broker: FakeBroker) -> None:
    from rejeu.jobs.build import replay_request

    [loaded] = load_specs([streams])
    assert loaded.spec is not None
    launcher = ProcessLauncher(tmp_path / "jobs")
    target = Target(project="rejeu-test", state=f"sqlite:{tmp_path / 'state.db'}")
    job = launcher.start(replay_request(loaded.spec, target, None, None))
    try:
        broker.wait_for(lambda: len(broker.bodies) == 100)
    finally:
        launcher.stop(job.name)
    assert [json.loads(body)["number"] for body in broker.bodies] == list(range(100))
