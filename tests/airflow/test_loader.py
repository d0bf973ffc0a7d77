"""From folders of specs to DAGs: every stream on its own, and neither network nor database nor Google's clients."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization

from docs.generate.dags import STREAMS
from rejeu import extensions
from rejeu.airflow import loader
from rejeu.airflow.dags.patrol import PATROL
from rejeu.airflow.factory import build_dag
from rejeu.airflow.loader import load_dags, load_patrol
from rejeu.spec import files
from rejeu.spec.document import read_document
from rejeu.spec.model import StreamSpec
from rejeu.target import LAUNCHERS, Target
from tests.paths import ROOT

DAG_FILE = ROOT / "dags" / "streams.py"
PATROL_FILE = ROOT / "dags" / "patrol.py"
WANTED = "_AIRFLOW_PARSING_CONTEXT_DAG_ID"
GOOD = (STREAMS / "crypto_rates.yaml").read_text(encoding="utf-8")
GOOD_DAGS = {f"crypto_rates.{part}" for part in ("batch", "live", "watchdog", "reconcile", "stop")}

Write = Callable[..., Path]
Load = Callable[..., dict[str, DAG]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A file beside the good spec."""
    folder = tmp_path / "streams"
    folder.mkdir()
    (folder / "crypto_rates.yaml").write_text(GOOD, encoding="utf-8")

    def put(name: str, text: str) -> Path:
        (folder / name).write_text(text, encoding="utf-8")
        return folder / name

    return put


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """The DAGs of the folder, as a DAG file beside it has them."""
    return lambda **which: {dag.dag_id: dag for dag in load_dags(str(tmp_path / "streams.py"), **which)}


def variant(**fields: Any) -> str:
    """The good spec with other fields, as YAML; another stream has a topic and tables of its own."""
    spec = yaml.safe_load(GOOD)
    if "stream" in fields:
        spec["batch"]["table"] = f"{fields['stream']}.batch"
        spec["live"] = {"topic": fields["stream"], "table": f"{fields['stream']}.rows", "pipeline": "rates"}
    return yaml.safe_dump(spec | fields)


def test_the_dag_file_registers_every_dag_under_its_id(dags: dict[str, DAG]) -> None:
    registered = {name for name, value in runpy.run_path(str(DAG_FILE)).items() if isinstance(value, DAG)}
    assert registered - {"dag"} == set(dags) - {PATROL}
    patrol = {name for name, value in runpy.run_path(str(PATROL_FILE)).items() if isinstance(value, DAG)}
    assert patrol - {"dag"} == {PATROL}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("broken", "stream: [", ("line 2", "it is not YAML", "Mend the line.")),
        ("unknown", variant(stream="other", colour="red"), ("`colour`", "there is no such field", "Fields here:")),
        ("missing", variant(stream="other", event_time=None), ("`event_time`", "it is None", "rejeu schema")),
        ("empty", "", ("the whole file", "it holds NoneType", "Start with `stream: my_stream`.")),
        ("tagged", variant(stream="tagged", tags=["x" * 101]), ("`tags.0`", "it must have 1 to 100", "rejeu schema")),
    ],
)
def test_a_broken_spec_says_so_and_leaves_the_others_alone(
    write: Write, load: Load, name: str, text: str, said: tuple[str, ...]
) -> None:
    file = write(f"{name}.yaml", text)
    dags = load()
    assert set(dags) == GOOD_DAGS | {f"{name}.invalid"}
    invalid = dags[f"{name}.invalid"]
    assert said[1] in invalid.dag_display_name
    assert invalid.doc_md
    for words in (f"`{file}`", *said):
        assert words in invalid.doc_md
    assert DagSerialization.to_dict(invalid)


def test_a_spec_that_airflow_refuses_says_so_and_leaves_the_others_alone(
    write: Write, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(spec: StreamSpec, kind: str, target: Target) -> DAG:
        if spec.stream == "refused":
            raise ValueError("no such thing")
        return build_dag(spec, kind, target)

    monkeypatch.setattr(loader, "build_dag", refuse)
    write("refused.yaml", variant(stream="refused"))
    dags = load()
    assert set(dags) == GOOD_DAGS | {"refused.invalid"}
    assert "Airflow refuses it: ValueError: no such thing" in (dags["refused.invalid"].doc_md or "")


def test_streams_that_share_a_table_are_both_refused_and_no_other(write: Write, load: Load) -> None:
    one, other = variant(stream="one"), yaml.safe_load(variant(stream="other"))
    write("one.yaml", one)
    write("other.yaml", yaml.safe_dump(other | {"batch": yaml.safe_load(one)["batch"]}))
    dags = load()
    assert set(dags) == GOOD_DAGS | {"one.invalid", "other.invalid"}
    assert "one.batch is also batch.table of the stream other" in (dags["one.invalid"].doc_md or "")


@pytest.mark.parametrize("stem", ["x" * 245, "é" * 100, "a b", "\udcff"])
def test_an_invalid_file_of_any_name_leaves_the_others_alone(write: Write, load: Load, stem: str) -> None:
    file = write(f"{stem}.yaml", "stream: !!bool maybe")
    dags = load()
    [invalid] = dags.keys() - GOOD_DAGS
    assert invalid.endswith(".invalid")
    assert DagSerialization.to_dict(dags[invalid])
    assert (dags[invalid].doc_md or "").encode("utf-8")
    assert file.exists()


def test_two_invalid_files_whose_names_fold_are_both_told_of(write: Write, load: Load) -> None:
    write("a-b.yaml", "stream: [")
    write("a_b.yaml", "stream: [")
    assert len([dag_id for dag_id in load() if dag_id.endswith(".invalid")]) == 2


def test_two_streams_of_one_name_are_both_refused_and_name_each_other(write: Write, load: Load) -> None:
    write("a_copy.yaml", GOOD)
    other = write("third.yaml", variant(stream="third"))
    dags = load()
    assert set(dags) == {"crypto_rates.invalid", "a_copy.invalid"} | {
        f"third.{part.split('.')[1]}" for part in GOOD_DAGS
    }
    assert f"is also the stream of {other.with_name('crypto_rates.yaml')}" in (dags["a_copy.invalid"].doc_md or "")
    assert f"is also the stream of {other.with_name('a_copy.yaml')}" in (dags["crypto_rates.invalid"].doc_md or "")


def test_a_mended_spec_gets_its_dags_back(write: Write, load: Load) -> None:
    write("other.yaml", "stream: [")
    assert "other.invalid" in load()
    write("other.yaml", variant(stream="other"))
    assert "other.invalid" not in load()
    assert "other.live" in load()


def test_folders_may_be_named_in_the_place_of_the_own_one(
    write: Write, load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("ignored.yaml", variant(stream="ignored"))
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        (folder / "a.yaml").write_text(variant(stream=f"from_{folder.name}"), encoding="utf-8")
    monkeypatch.setenv("REJEU_STREAMS", os.pathsep.join(map(str, folders)))
    assert {dag_id.partition(".")[0] for dag_id in load()} == {"from_one", "from_two"}


def test_a_worker_builds_its_own_dag_only(write: Write, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    write("broken.yaml", "stream: [")
    for dag_id in ("crypto_rates.live", "broken.invalid"):
        monkeypatch.setenv(WANTED, dag_id)
        assert set(load()) == {dag_id}


def test_a_worker_whose_dag_is_gone_builds_none(load: Load, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WANTED, "another_stream.live")
    assert load() == {}


def test_the_target_may_name_a_launcher_that_stands_beside_the_specs(
    load: Load, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extensions, "__path__", [])
    monkeypatch.setattr(LAUNCHERS, "loaded", {})
    monkeypatch.setenv("REJEU_LAUNCHER", "gentle")
    write("gentle.py", "from rejeu.target import LauncherKind\nLAUNCHER = LauncherKind(print)\n")
    schedule: Any = load()["crypto_rates.watchdog"].schedule
    assert schedule[0].watchers, "the settings are right"
    del sys.modules["rejeu.extensions.gentle"]


def test_a_deployment_without_a_project_is_told_which_variable_to_set(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REJEU_PROJECT")
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    (patrol, wrong) = load_patrol("dags/patrol.py")
    assert (patrol.dag_id, wrong.dag_id) == (PATROL, "rejeu.settings.invalid")
    assert "REJEU_PROJECT: " in wrong.dag_display_name
    assert "Set it in Airflow's environment" in (wrong.doc_md or "")
    assert DagSerialization.to_dict(wrong)


def test_no_dag_vanishes_for_a_wrong_setting_and_the_watch_says_why_it_is_away(
    load: Load, write: Write, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("REJEU_LAUNCHER", "nowhere")
    dags = load()
    assert set(dags) == GOOD_DAGS
    schedule: Any = dags["crypto_rates.watchdog"].schedule
    assert all(DagSerialization.to_dict(dag) for dag in dags.values())
    assert [asset.watchers for asset in schedule] == [[]]
    assert "no stream is watched: REJEU_LAUNCHER: it is 'nowhere'" in caplog.text


def test_a_broken_spec_is_nothing_to_the_patrol(write: Write, tmp_path: Path) -> None:
    write("broken.yaml", "stream: [")
    assert [dag.dag_id for dag in load_patrol(str(tmp_path / "patrol.py"))] == [PATROL]


def test_streams_are_divided_among_files_each_in_one(load: Load, write: Write) -> None:
    write("broken.yaml", "stream: [")
    for number in range(8):
        write(f"s_{number}.yaml", variant(stream=f"stream_{number}"))
    parts = [set(load(number=number, of=3)) for number in range(3)]
    assert all(parts)
    assert sum(map(len, parts)) == len(set().union(*parts))
    assert set().union(*parts) == set(load())
    streams = [{dag_id.partition(".")[0] for dag_id in part} for part in parts]
    assert sum(map(len, streams)) == len(set().union(*streams)), "a stream is in one file as a whole"


def test_a_file_that_is_none_of_them_is_refused(load: Load) -> None:
    with pytest.raises(ValueError, match="number is 3: it must be 0 to 2, for there are 3 files"):
        load(number=3, of=3)


def test_a_worker_reads_no_other_file_than_its_streams(
    load: Load, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        write(f"stream_{number}.yaml", variant(stream=f"stream_{number}"))
    read: list[str] = []

    def remember(file: Path) -> Any:
        read.append(file.name)
        return read_document(file)

    monkeypatch.setattr(files, "read_document", remember)
    monkeypatch.setenv(WANTED, "stream_1.live")
    assert set(load(number=0, of=16)) == {"stream_1.live"}
    assert read == ["stream_1.yaml"]


@pytest.mark.parametrize("other", ["", "stream: [", variant(stream="third")])
def test_a_worker_finds_a_stream_whose_file_is_called_otherwise(
    load: Load, write: Write, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    write("some_name.yaml", variant(stream="my_feed"))
    write("my_feed.yaml", other)
    monkeypatch.setenv(WANTED, "my_feed.live")
    assert "my_feed.live" in load()


PARSE = """
import json, os, runpy, socket, sqlite3, sys

def forbidden(*_, **__):
    raise AssertionError("no network and no database while parsing")

socket.socket.connect = socket.getaddrinfo = socket.create_connection = forbidden
sqlite3.connect = sqlite3.dbapi2.connect = forbidden

def seen(*packages):
    # google.cloud alone is a bare namespace, which a .pth file of site-packages makes before any import.
    return sorted(name for name in sys.modules if name.startswith(packages))

def parse(wanted=None):
    os.environ.pop("_AIRFLOW_PARSING_CONTEXT_DAG_ID", None)
    if wanted:
        os.environ["_AIRFLOW_PARSING_CONTEXT_DAG_ID"] = wanted
    return sorted(name for name in runpy.run_path(sys.argv[1]) if "." in name)

one = parse("crypto_rates.batch")
everything = parse()
heavy = seen("google.cloud.", "airflow.providers.google.cloud", "airflow.providers.google.common", "apache_beam")
print(json.dumps({"one": one, "all": everything, "heavy": heavy}))
"""


def test_parsing_brings_no_beam_no_network_no_database_and_nothing_of_google(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    environment = {"AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": f"{ROOT / 'plugins'}:{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", PARSE, str(DAG_FILE)],
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["one"] == ["crypto_rates.batch"]
    assert set(found["all"]) >= GOOD_DAGS
    assert found["heavy"] == []
    assert list(tmp_path.glob("*.db")) == []
