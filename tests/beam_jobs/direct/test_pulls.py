"""On the DirectRunner, each row id is read once, in large pulls, and acknowledged when it is written."""

from __future__ import annotations

from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner
from google.api_core.exceptions import DeadlineExceeded, ServiceUnavailable
from google.pubsub_v1 import PubsubMessage

from beam_jobs.direct.pulls import REMEMBER_SECONDS, LocalPulls
from beam_jobs.direct.windows import RawMessage
from tests.beam_jobs.builders import STREAM
from tests.fakes.subscriber import SUBSCRIPTION, FakeClock, FakeSubscriber, events


def pulls_of(subscriber: FakeSubscriber, clock: FakeClock | None = None, windows: Any = None) -> LocalPulls:
    events.clear()
    return LocalPulls(STREAM, subscriber, lambda: events.append("running"), clock or FakeClock(), windows)


def pull_ids(pulls: LocalPulls) -> list[str]:
    """Pull and take over, as Beam's read does; the row ids that came."""
    received = pulls.pull(SUBSCRIPTION, max_messages=10, timeout=30).received_messages
    pulls.acknowledge(SUBSCRIPTION, [each.ack_id for each in received])
    return [each.message.attributes.get("row_id", "") for each in received]


def test_a_pull_brings_up_to_a_thousand_messages_whatever_beam_asks_for() -> None:
    pulls = pulls_of(FakeSubscriber([str(number) for number in range(1_250)]))
    assert [len(pull_ids(pulls)) for _ in range(3)] == [1_000, 250, 0]


def test_the_sign_of_life_is_given_once_at_the_first_pull() -> None:
    pulls = pulls_of(FakeSubscriber([]))
    assert "running" not in events
    pull_ids(pulls)
    pull_ids(pulls)
    assert events.count("running") == 1
    assert events[0] == "running"


def test_messages_are_acknowledged_when_the_next_pull_says_that_they_are_written() -> None:
    subscriber = FakeSubscriber(["a", "b"])
    pulls = pulls_of(subscriber)
    pull_ids(pulls)
    assert subscriber.acknowledged == []
    pull_ids(pulls)
    assert subscriber.acknowledged == ["a@1", "b@2"]


def test_what_beam_did_not_take_over_is_not_acknowledged() -> None:
    subscriber = FakeSubscriber(["a"])
    pulls = pulls_of(subscriber)
    pulls.pull(SUBSCRIPTION)
    pulls.pull(SUBSCRIPTION)
    assert subscriber.acknowledged == []


def test_a_row_id_is_let_through_once_and_its_duplicates_are_acknowledged() -> None:
    subscriber = FakeSubscriber(["a", "b", "a"])
    pulls = pulls_of(subscriber)
    assert pull_ids(pulls) == ["a", "b"]
    subscriber.waiting.extend(["b", "c"])
    assert pull_ids(pulls) == ["c"]
    pull_ids(pulls)
    assert sorted(subscriber.acknowledged) == ["a@1", "a@3", "b@2", "b@4", "c@5"]


def test_messages_without_a_row_id_are_told_apart_by_their_message_ids() -> None:
    assert pull_ids(pulls_of(FakeSubscriber(["", ""]))) == ["", ""]


def test_a_row_id_is_forgotten_after_ten_minutes() -> None:
    subscriber, clock = FakeSubscriber(["a"]), FakeClock()
    pulls = pulls_of(subscriber, clock)
    pull_ids(pulls)
    for seconds, expected in ((REMEMBER_SECONDS, []), (REMEMBER_SECONDS + 1, ["a"])):
        clock.now = seconds
        subscriber.waiting.append("a")
        assert pull_ids(pulls) == expected


@pytest.mark.parametrize("failure", [ServiceUnavailable("gone"), DeadlineExceeded("nothing came")])
def test_while_pubsub_is_away_nothing_comes_and_nothing_is_lost(failure: Exception) -> None:
    subscriber = FakeSubscriber(["a"])
    pulls = pulls_of(subscriber)
    pull_ids(pulls)
    subscriber.failure = failure
    subscriber.waiting.append("b")
    assert pull_ids(pulls) == []
    assert pull_ids(pulls) == ["b"]
    assert subscriber.acknowledged == ["a@1"]


def test_a_drain_acknowledges_what_is_written_and_pulls_no_more() -> None:
    subscriber = FakeSubscriber(["a"])
    pulls = pulls_of(subscriber)
    pull_ids(pulls)
    assert not pulls.drain(timeout=0)
    subscriber.waiting.append("b")
    assert pull_ids(pulls) == []
    assert pulls.drain(timeout=0)
    assert subscriber.acknowledged == ["a@1"]
    assert list(subscriber.waiting) == ["b"]


class FakeWindows:
    """What windows know and want again, and what they were given to keep."""

    def __init__(self, known: set[str], again: list[RawMessage]) -> None:
        self.known, self.left, self.kept = known, again, [""]

    def again(self) -> list[RawMessage]:
        messages, self.left = self.left, []
        return messages

    def keep(self, messages: dict[str, RawMessage]) -> set[str]:
        self.kept = list(messages)
        return self.known


def test_windows_have_their_messages_of_before_first_and_those_are_acknowledged_to_nobody() -> None:
    subscriber = FakeSubscriber(["b"])
    old = PubsubMessage.pb()(data=b"{}", attributes={"row_id": "a"}, message_id="0")
    pulls = pulls_of(subscriber, windows=FakeWindows(set(), [old]))
    assert [pull_ids(pulls) for _ in range(3)] == [["a"], ["b"], []]
    assert subscriber.acknowledged == ["b@1"]


@pytest.mark.parametrize("windows", [None, FakeWindows(set(), [])])
def test_a_pull_waits_for_a_message_unless_there_are_windows_to_be_written_meanwhile(windows: Any) -> None:
    subscriber = FakeSubscriber([])
    assert pull_ids(pulls_of(subscriber, windows=windows)) == []
    assert subscriber.waits == [windows is None]


def test_windows_keep_what_comes_and_what_they_know_is_a_duplicate() -> None:
    subscriber, windows = FakeSubscriber(["a", "b"]), FakeWindows({"a"}, [])
    pulls = pulls_of(subscriber, windows=windows)
    assert pull_ids(pulls) == ["b"]
    assert windows.kept == ["a", "b"]
    pull_ids(pulls)
    assert sorted(subscriber.acknowledged) == ["a@1", "b@2"]


def test_canary_the_direct_runner_reads_here_and_only_when_all_before_is_done() -> None:
    """Fails when Beam changes its private read, or begins to read ahead: then acknowledging at a pull loses rows."""
    subscriber = FakeSubscriber([str(number) for number in range(2_500)])
    pulls = pulls_of(subscriber)
    pipeline = beam.Pipeline(runner=BundleBasedDirectRunner(), options=PipelineOptions(["--streaming"]))
    messages = pipeline | beam.io.ReadFromPubSub(subscription=SUBSCRIPTION, with_attributes=True)
    messages | "first" >> beam.Map(_note, "first") | "second" >> beam.Map(_note, "second")
    with pulls.installed():
        result = pipeline.run()
        while len(subscriber.acknowledged) < 2_500:
            assert not pulls._drained.wait(0.02)
        assert pulls.drain(timeout=10)
        result.cancel()
    done = [event for event in events if event in ("first", "second")]
    assert len(done) == 5_000
    # 1,000 messages: ten pulls with messages, then each step a thousand times, before anything is pulled again.
    per_pull = ["pull"] * 10 + ["first"] * 1_000 + ["second"] * 1_000
    assert events[1 : 1 + 2 * len(per_pull)] == per_pull * 2


def _note(element: object, step: str) -> object:
    events.append(step)
    return element
