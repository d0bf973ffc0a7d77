"""Streams share nothing that must be their own: two that would are both refused, each naming the other."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rejeu.jobs.request import BatchJobRequest, ReconcileRequest, ReplayRequest, StreamJobRequest
from rejeu.launchers.names import short_name
from rejeu.spec.files import load_specs
from rejeu.spec.model import StreamSpec
from rejeu.spec.sharing import clashes, misnamed
from rejeu.state.documents import SideDocument
from tests.spec.builders import spec_of


def refused(*specs: dict[str, Any]) -> dict[str, str]:
    """The first reason of each stream that is refused."""
    found = clashes([StreamSpec.model_validate(each) for each in specs])
    return {stream: f"{clash.field}: {clash.reason}" for stream, [(clash, _), *_] in found.items()}


ONE = spec_of("one")

SHARED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the batch table": (ONE, spec_of("two", batch__table="one.days")),
    "the streaming table": (ONE, spec_of("two", live__table="one.rows", live__view="two.live")),
    "the view": (ONE, spec_of("two", live__view="one.rows_live")),
    "one's batch table and the other's streaming table": (ONE, spec_of("two", live__table="one.days")),
    "one's dead letters and the other's streaming table": (ONE, spec_of("two", live__table="one.rows_dead_letters")),
    "a table with and without the target's project": (ONE, spec_of("two", batch__table="rejeu-here.one.days")),
    "the topic that both publish to": (ONE, spec_of("two", live__topic="topic_of_one")),
    "the job of a standby": (spec_of("orders", replay__standby=True), spec_of("orders_twin")),
    "the subscription": (spec_of("feed_abc", live__topic="prod"), spec_of("abc", live__topic="prod-feed")),
    "a tap and a subscription": (
        spec_of("abc", live__topic="prod-x", watchdog={"probe": "tap"}),
        spec_of("x_abc_tap", live__topic="prod"),
    ),
}


@pytest.mark.parametrize("shared", SHARED)
def test_what_two_streams_share_refuses_both_and_no_third(shared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REJEU_PROJECT", "rejeu-here")
    one, other = SHARED[shared]
    said = refused(one, other, spec_of("third"))
    assert said.keys() == {one["stream"], other["stream"]}
    assert f"of the stream {other['stream']}" in said[one["stream"]]
    assert f"of the stream {one['stream']}" in said[other["stream"]]


FINE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a table of dead letters": (
        spec_of("one", live__dead_letters="web.dead"),
        spec_of("two", live__dead_letters="web.dead"),
    ),
    "a topic that only one publishes to": (
        ONE,
        spec_of("two", live__topic="topic_of_one", replay=None, watchdog={"probe": "tap"}),
    ),
    "a name and that with _twin, without a standby": (spec_of("orders"), spec_of("orders_twin")),
    "a table in another project": (ONE, spec_of("two", batch__table="other-project.one.days")),
    "a name and that of a shard": (spec_of("orders"), spec_of("orders_0_of_4")),
}


@pytest.mark.parametrize("fine", FINE)
def test_what_streams_may_share_refuses_neither(fine: str) -> None:
    assert refused(*FINE[fine]) == {}


def test_a_refusal_names_both_files_and_the_remedy(tmp_path: Path) -> None:
    for document in (ONE, spec_of("two", batch__table="one.days"), spec_of("third")):
        (tmp_path / f"{document['stream']}.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    one, third, two = load_specs([tmp_path])
    assert third.error is None
    assert str(one.error).startswith("batch.table: the table ")
    assert str(one.error).endswith(
        f"one.days is also batch.table of the stream two, in {two.file}. Give each stream one of its own. ({one.file})"
    )
    assert f"of the stream one, in {one.file}" in str(two.error)


# One naming rule

words = st.sampled_from(["abc", "feed", "prod", "tap", "twin", "x", "0_of_2", "1_of_2", "20210430", "dead", "", "live"])
streams = st.lists(words, min_size=1, max_size=3).map("_".join).filter(lambda name: len(name) > 2 and name[0].isalpha())
topics = st.lists(words, min_size=1, max_size=3).map("-".join).filter(lambda name: len(name) > 2 and name[0].isalpha())
specs = st.builds(
    lambda stream, topic, standby, probe: StreamSpec.model_validate(
        spec_of(stream, live__topic=topic, replay__standby=standby, watchdog__probe=probe)
    ),
    streams,
    topics,
    st.booleans(),
    st.sampled_from(["heartbeat", "tap"]),
)

SHORT = 40
"""Characters of a short name: fewer than any platform takes."""


def jobs_of(spec: StreamSpec) -> Iterator[str]:
    """The names of all jobs that a stream can have."""
    common = {"stream": spec.stream, "event_time": "at", "topic": "projects/p/topics/t", "table": "a.b"}
    for shard, twin in itertools.product([None, "0/1", "0/2", "1/2", "0/20"], [False, True]):
        assert spec.replay is not None
        if not twin or shard or spec.replay.standby:
            yield ReplayRequest.of(**common, shard=shard, twin=twin).job_name
    pipeline = {"stream": spec.stream, "pipeline": "rates", "event_time": "at"}
    yield StreamJobRequest.of(**pipeline, subscription="s", table="t", dead_letters="d").job_name
    for folder, day in itertools.product(["0a", "1f"], ["2021-04-30", "2021-05-01"]):
        yield BatchJobRequest.of(**pipeline, files="f", output=f"gs://b/{folder}", partition=day).job_name
    more = {"pipeline": "rates", "streaming_table": "t", "streaming_time": "at", "dead_letters": "d"}
    yield ReconcileRequest.of(**common, **more, until="2021-05-01T00:00:00Z").job_name


def names_of(spec: StreamSpec) -> Iterator[tuple[str, str]]:
    """Everything that is called after a stream, with its kind."""
    for job in jobs_of(spec):
        yield "job", job
        yield "label", short_name(job, SHORT)
    yield "subscription", spec.subscription
    if spec.watchdog.probe == ("tap",):
        yield "subscription", spec.tap
    for shard in ("", "-0-of-2", "-1-of-2"):
        for name in (spec.stream + shard, *(side.of(spec.stream + shard) for side in SideDocument)):
            yield "document", name
    for day in ("20210430", "20210501"):
        yield "staging table", f"{spec.stream}_{day}"
        yield "staging table", f"{spec.stream}_{day}_dead"


@settings(max_examples=300)
@given(st.lists(specs, min_size=2, max_size=6, unique_by=lambda spec: spec.stream))
def test_no_two_streams_that_may_run_have_anything_of_one_name(found: list[StreamSpec]) -> None:
    refused = clashes(found)
    names = [name for spec in found if spec.stream not in refused for name in names_of(spec)]
    assert sorted(set(names)) == sorted(names)


# What one stream may not name


OWN = "which is Rejeu's own"
ITSELF = "which the stream writes: it would replay itself for ever"

MISNAMED: dict[str, tuple[dict[str, Any], str, str]] = {
    "incidents as a streaming table": ({"live__table": "rejeu.incidents"}, "live.table", OWN),
    "with the target's project": ({"batch__table": "rejeu-here.rejeu.reconciliations"}, "batch.table", OWN),
    "as a view": ({"live__view": "rejeu.incidents"}, "live.view", OWN),
    "for dead letters": ({"live__dead_letters": "rejeu.reconciliations"}, "live.dead_letters", OWN),
    "a staging table": ({"live__table": "rejeu_staging.rows"}, "live.table", OWN),
    "incidents as a source": ({"replay__source__table": "rejeu.incidents"}, "replay.source.table", OWN),
    "incidents in a query": (
        {"replay__source": {"query": "SELECT * FROM `rejeu-here`.`rejeu`.incidents"}},
        "replay.source.query",
        OWN,
    ),
    "its own view as its source": ({"replay__source__table": "one.rows_live"}, "replay.source.table", ITSELF),
    "its own view with the project": (
        {"replay__source__table": "rejeu-here.one.rows_live"},
        "replay.source.table",
        ITSELF,
    ),
    "its own dead letters": ({"replay__source__table": "one.rows_dead_letters"}, "replay.source.table", ITSELF),
    "its own table in a query": (
        {"replay__source": {"query": "SELECT a.* FROM web.history AS a\nLEFT JOIN `one.rows` AS b USING (id)"}},
        "replay.source.query",
        ITSELF,
    ),
}


@pytest.mark.parametrize("case", MISNAMED)
def test_a_table_of_rejeus_own_or_what_the_stream_itself_writes_is_refused(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REJEU_PROJECT", "rejeu-here")
    changes, field, reason = MISNAMED[case]
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(spec_of("one", **changes)), encoding="utf-8")
    [loaded] = load_specs([tmp_path])
    assert loaded.error is not None
    assert loaded.error.field == field
    assert reason in str(loaded.error)


def test_the_dataset_of_rejeus_own_tables_is_the_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = StreamSpec.model_validate(spec_of("one", live__table="mine.incidents"))
    assert misnamed(spec) is None
    monkeypatch.setenv("REJEU_DATASET", "mine")
    assert misnamed(spec) is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"live__table": "rejeu.clicks"},
        {"live__table": "other-project.rejeu.incidents"},
        {"replay__source__table": "one.days"},
        {"replay__source": {"query": "SELECT one.rows, '# from one.row' FROM web.history AS one"}},
    ],
)
def test_other_tables_may_be_named(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REJEU_PROJECT", "rejeu-here")
    assert misnamed(StreamSpec.model_validate(spec_of("one", **changes))) is None
