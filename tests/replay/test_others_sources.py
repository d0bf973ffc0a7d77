"""A simulator or a reader of somebody else's: found beside the specs by whoever checks, parses or replays."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from rejeu import cli, extensions
from rejeu.errors import RequestError
from rejeu.jobs.build import replay_request
from rejeu.jobs.request import ReplayRequest
from rejeu.launchers.process import ProcessLauncher
from rejeu.replay.source.columns import output_columns
from rejeu.spec.files import load_specs
from rejeu.spec.sources import GENERATORS, SOURCES
from rejeu.target import Target
from tests.fakes.broker import FakeBroker

ORDERS: Final = """
import pandas as pd
import pyarrow as pa

from rejeu.replay.source.generators.base import Generator, Positive, arrow_schema
from rejeu.spec.columns import Column
from rejeu.spec.sources import GeneratorKind


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
READER: Final = """
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from rejeu.replay.source.reader import Reader
from rejeu.spec.columns import Column
from rejeu.spec.sources import SourceKind

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


class Counter(Reader):
    count: int

    def columns(self) -> Sequence[Column]:
        return (Column("at", "TIMESTAMP"), Column("number", "INT64"))

    def tables(self, from_us, until_us):
        for number in range(self.count):
            yield pa.table({"at": [NOON + timedelta(seconds=number)], "number": [number]})


SOURCE = SourceKind(Counter)
"""
COUNTED: Final = SPEC.replace('{generator: "orders:every=1"}', "{reader: counter, options: {count: 7}}")


@pytest.fixture
def streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a spec, and the simulator that it names."""
    folder = tmp_path / "dags" / "streams"
    folder.mkdir(parents=True)
    (folder / "orders.py").write_text(ORDERS)
    (folder / "made_orders.yaml").write_text(SPEC)
    (folder / "counter.py").write_text(READER)
    monkeypatch.setattr(extensions, "__path__", [])
    yield folder
    GENERATORS.loaded.pop("orders", None)
    SOURCES.loaded.pop("counter", None)
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


@pytest.mark.slow
def test_dags_are_made_of_a_spec_that_names_it(streams: Path) -> None:
    from rejeu.airflow import loader

    dags = loader.build_all(load_specs([streams]), Target(project="rejeu-test"))
    assert {dag.dag_id for dag in dags} >= {"made_orders.live", "made_orders.watchdog"}


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "numbers"), [(SPEC, range(100)), (COUNTED, range(7))], ids=["generator", "reader"])
def test_a_process_replays_it(
    streams: Path, tmp_path: Path, broker: FakeBroker, spec: str, numbers: Sequence[int]
) -> None:
    (streams / "made_orders.yaml").write_text(spec)
    request = request_of(streams, tmp_path)
    launcher = ProcessLauncher(tmp_path / "jobs")
    launcher.start(request)
    try:
        broker.wait_for(lambda: len(broker.bodies) == len(numbers))
    finally:
        launcher.stop(request.job_name)
    assert [json.loads(body)["number"] for body in broker.bodies] == list(numbers)


def test_a_readers_options_travel_as_json(streams: Path, tmp_path: Path) -> None:
    (streams / "made_orders.yaml").write_text(COUNTED)
    request = request_of(streams, tmp_path)
    assert "--reader=counter" in request.to_argv()
    assert '--options={"count":7}' in request.to_argv()
    assert ReplayRequest.from_argv(request.to_argv()) == request


def test_a_readers_columns_are_those_of_the_tables(streams: Path, tmp_path: Path) -> None:
    (streams / "made_orders.yaml").write_text(COUNTED)
    [loaded] = load_specs([streams])
    assert loaded.spec is not None
    columns = output_columns(loaded.spec, Target(project="rejeu-test"), None)  # type: ignore[arg-type]  # nobody is asked
    assert [column.name for column in columns] == ["at", "number"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{reader: contour}", "replay.source.reader: it is 'contour': it must be one of counter"),
        ("{reader: counter}", "--reader counter: count: Field required; options: count"),
        ("{reader: counter, options: {count: many}}", "--reader counter: count: Input should be a valid integer"),
        ("{reader: counter, options: {cuont: 1}}", "--reader counter: count: Field required; options: count"),
        ("{table: a.b, options: {count: 1}}", "options has count: only a reader has options; name one"),
        ("{table: a.b, reader: counter}", "it has table and reader: it must have exactly one of"),
    ],
)
def test_what_is_wrong_with_a_reader_is_told_by_validate(
    streams: Path, capsys: pytest.CaptureFixture[str], source: str, said: str
) -> None:
    (streams / "made_orders.yaml").write_text(COUNTED.replace("{reader: counter, options: {count: 7}}", source))
    assert cli.main(["validate", str(streams / "made_orders.yaml")]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--reader=contour"], "--reader: it is 'contour': it must be one of counter"),
        (["--reader=counter", "--options=count"], "--options: it is 'count': it must be JSON"),
        (["--table=a.b", '--options={"count": 1}'], "only a reader has options; name one with --reader"),
    ],
)
def test_what_is_wrong_with_a_readers_flags_is_told(streams: Path, flags: list[str], said: str) -> None:
    extensions.look_in(streams)
    with pytest.raises(RequestError, match=said):
        ReplayRequest.from_argv(["--topic=projects/p/topics/t", "--event-time=at", *flags])


def test_the_command_line_finds_what_stands_beside_the_specs(
    streams: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REJEU_DAGS", str(streams.parent))
    assert cli.main(["replay", "--reader=contour", "--topic=projects/p/topics/t", "--event-time=at"]) == 2
    assert "--reader: it is 'contour': it must be one of counter" in capsys.readouterr().err


def request_of(streams: Path, home: Path) -> ReplayRequest:
    """What starts the stream's replay."""
    [loaded] = load_specs([streams])
    assert loaded.spec is not None, loaded.error
    target = Target(project="rejeu-test", state=f"sqlite:{home / 'state.db'}")
    return replay_request(loaded.spec, target, None, None)
