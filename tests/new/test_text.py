"""The YAML of a new spec: whatever is guessed, it loads; nothing is overwritten, and nothing half-written stays."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rejeu.errors import RequestError, SourceError, SpecError
from rejeu.new.guess import EventTime, Key
from rejeu.new.text import Wish, spec_text, write_spec
from rejeu.spec.columns import Column
from rejeu.spec.files import read_spec
from rejeu.spec.pipelines import PIPELINES

INSTANT = datetime(2021, 5, 1, tzinfo=UTC)
WISH = Wish("web_clicks", "passthrough", table="web.clicks")
KEY = Key(("user_id",), "it says so")

columns = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True) | st.sampled_from(["on", "no", "null", "y"])
names = st.from_regex(r"[a-z][a-z0-9_]{2,62}", fullmatch=True) | st.sampled_from(["null", "true", "off", "google_ads"])
characters = st.characters(exclude_categories=["C", "Z"], exclude_characters="'\"`\\") | st.just(" ")
paths = st.text(characters, min_size=1).map("/data/{}".format).map(Path).map(str)


def time(name: str = "at", unit: str | None = None) -> EventTime:
    return EventTime(name, "TIMESTAMP", unit, INSTANT, INSTANT, ("it says so",))  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(
    name=names,
    pipeline=st.sampled_from(sorted(PIPELINES)),
    file=paths | paths.map("gs:/{}".format),
    event_time=columns,
    unit=st.sampled_from([None, "s", "ms", "us"]),
    key=st.lists(columns, max_size=3, unique=True),
)
def test_whatever_is_guessed_the_spec_loads_and_says_it(
    name: str,
    pipeline: str,
    file: str,
    event_time: str,
    unit: str | None,
    key: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    wish = Wish(name, pipeline, file=file)
    wish.check()
    folder = tmp_path_factory.mktemp("dags")
    spec = read_spec(write_spec(folder, name, spec_text(wish, time(event_time, unit), Key(tuple(key), "it says so"))))
    assert spec.stream == name
    assert (spec.source_time, spec.source_key, spec.live.pipeline) == (event_time, tuple(key), pipeline)
    assert spec.replay is not None
    assert spec.replay.source.time_unit == unit
    assert (spec.replay.source.files or "").format(bucket="{bucket}") == file
    assert [each.name for each in folder.iterdir()] == [f"{name}.yaml"]


@pytest.mark.parametrize("name", ["", "ab", "Clicks", "1st_feed", "web-clicks", "../evil", "x" * 64])
def test_a_name_that_no_stream_can_have_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match="small letters, digits and underscores"):
        Wish(name, "passthrough", file="x.parquet").check()


@pytest.mark.parametrize("file", ["/data/it's.parquet", "/data/a\nb.parquet"])
def test_a_file_whose_path_no_spec_may_have_is_refused_at_once(file: str) -> None:
    with pytest.raises(RequestError, match="a file's path must be without quotes, backslashes and line breaks; rename"):
        Wish("web_clicks", "passthrough", file=file).check()


def test_an_unknown_pipeline_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(RequestError, match="--pipeline is 'rtes': it must be one of clicks, "):
        Wish("web_clicks", "rtes", file="x.parquet").check()


@pytest.mark.parametrize(
    ("table", "complaint"),
    [("clicks", "write dataset.table"), ("a.b.c.d", "write dataset.table"), ("streams.web_clicks", "itself writes it")],
)
def test_a_table_that_cannot_be_the_source_is_refused(table: str, complaint: str) -> None:
    with pytest.raises(RequestError, match=complaint):
        Wish("web_clicks", "passthrough", table=table).check()


@pytest.mark.parametrize(
    "name", ["row_id", "ROW_ID", "user id", "1st", "größe", "_TABLE_x", "_partitiontime", "x" * 301]
)
def test_a_column_that_bigquery_would_refuse_is_told_of(name: str) -> None:
    with pytest.raises(SourceError, match="rename it"):
        WISH.check_columns([Column("at", "TIMESTAMP"), Column(name, "STRING")])
    Wish("web_rates", "rates", table="web.rates").check_columns([Column(name, "STRING")])


def test_two_columns_that_differ_in_their_case_alone_are_told_of() -> None:
    with pytest.raises(SourceError, match="differs in its case alone"):
        WISH.check_columns([Column("at", "TIMESTAMP"), Column("At", "TIMESTAMP")])


def test_a_spec_that_does_not_load_is_not_written(tmp_path: Path) -> None:
    wish = Wish("web_clicks", "passthrough", topic="a b", table="web.clicks")
    with pytest.raises(SpecError, match=rf"^live.topic: it is 'a b'.*\({tmp_path}/web_clicks.yaml\)$"):
        write_spec(tmp_path, wish.name, spec_text(wish, time(), KEY))
    assert [*tmp_path.iterdir()] == []


def test_a_spec_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    text = spec_text(WISH, time(), KEY)
    file = write_spec(tmp_path, WISH.name, text)
    file.write_text("mine", encoding="utf-8")
    with pytest.raises(RequestError, match=rf"{file} is there already: remove it"):
        write_spec(tmp_path, WISH.name, text)
    assert file.read_text(encoding="utf-8") == "mine"


def test_a_stream_of_another_file_keeps_its_name(tmp_path: Path) -> None:
    text = spec_text(WISH, time(), KEY)
    write_spec(tmp_path, WISH.name, text).rename(tmp_path / "others.yaml")
    with pytest.raises(RequestError, match=r"others\.yaml is there already"):
        write_spec(tmp_path, WISH.name, text)


def test_each_guess_has_its_reason_beside_it() -> None:
    lines = spec_text(WISH, time(), KEY).splitlines()
    assert lines[0] == "# yaml-language-server: $schema=stream.schema.json"
    assert "event_time: at  # it says so" in lines
    assert "key: [user_id]  # it says so" in lines
    assert "key: []  # nothing does" in spec_text(WISH, time(), Key((), "nothing does"))
