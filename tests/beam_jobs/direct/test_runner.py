"""The DirectRunner does nothing for bundles without elements, and looks at each step once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner
from apache_beam.runners.direct.watermark_manager import _TransformWatermarks
from apache_beam.transforms import userstate

from beam_jobs.direct.pulls import LocalPulls
from beam_jobs.direct.runner import light_bundles, replaced
from tests.beam_jobs.builders import STREAM
from tests.fakes.subscriber import SUBSCRIPTION, FakeSubscriber

PULLS = 5

bundles: list[str] = []
"""The steps that began a bundle, in order; at module level, for Beam pickles what it runs."""


class Part(beam.DoFn):
    """All that it has goes to its main output, nothing to the other."""

    def __init__(self, name: str) -> None:
        self._name = name

    def start_bundle(self) -> None:
        bundles.append(self._name)

    def process(self, element: object) -> Iterator[object]:
        yield element


class Bad(Part):
    """What comes from the other output."""


def run() -> None:
    """Some pulls of a message each, through steps with an output that is always empty."""
    bundles.clear()
    pulls = LocalPulls(STREAM, OneByOne(), lambda: None)
    pipeline = beam.Pipeline(runner=BundleBasedDirectRunner(), options=PipelineOptions(["--streaming"]))
    messages = pipeline | beam.io.ReadFromPubSub(subscription=SUBSCRIPTION, with_attributes=True)
    good, bad = messages | "part" >> beam.ParDo(Part("part")).with_outputs("bad", main="good")
    good | "good" >> beam.ParDo(Part("good"))
    (bad, bad) | beam.Flatten() | "bad" >> beam.ParDo(Bad("bad"))
    with pulls.installed():
        result = pipeline.run()
        while bundles.count("good") < PULLS:
            assert not pulls._drained.wait(0.02)
        assert pulls.drain(timeout=10)
        result.cancel()


class OneByOne(FakeSubscriber):
    """A subscription that gives one message a pull."""

    def __init__(self) -> None:
        super().__init__([str(number) for number in range(PULLS)])

    def pull(self, request: dict[str, Any], timeout: float) -> Any:
        return super().pull(request | {"max_messages": 0 if request["return_immediately"] else 1}, timeout)


def test_canary_no_step_runs_for_a_bundle_without_elements() -> None:
    """Fails when Beam hands bundles on in another way."""
    with light_bundles():
        run()
    assert bundles == ["part", "good"] * PULLS


def test_canary_no_bundle_without_elements_is_waited_for() -> None:
    """Fails when Beam keeps account of bundles in another way."""
    beams_own, waited_for = _TransformWatermarks.add_pending, []

    def add_pending(watermarks: Any, bundle: Any) -> None:
        waited_for.append(bundle.has_elements())
        beams_own(watermarks, bundle)

    with replaced(_TransformWatermarks, add_pending=add_pending), light_bundles():
        run()
    assert waited_for == [True] * 2 * PULLS


def test_canary_a_kind_of_step_is_asked_once_for_its_state() -> None:
    """Fails when Beam looks for state in another way."""
    beams_own, asked = userstate.get_dofn_specs, []

    def get_dofn_specs(step: Any) -> Any:
        asked.append(type(step).__name__)
        return beams_own(step)

    with replaced(userstate, get_dofn_specs=get_dofn_specs), light_bundles():
        run()
    assert sorted(name for name in asked if name in ("Part", "Bad")) == ["Bad", "Part"]


def test_what_is_replaced_is_back_afterwards_whatever_happens() -> None:
    class Theirs:
        @staticmethod
        def name() -> str:
            return "theirs"

    @contextmanager
    def failing() -> Iterator[None]:
        with replaced(Theirs, name=staticmethod(lambda: "ours")):
            assert Theirs.name() == "ours"
            yield

    with pytest.raises(ZeroDivisionError), failing():
        raise ZeroDivisionError
    assert Theirs.name() == "theirs"
    assert isinstance(vars(Theirs)["name"], staticmethod)


def test_what_beam_lacks_cannot_be_replaced() -> None:
    with pytest.raises(KeyError, match="get_specs"), replaced(userstate, get_specs=None):
        pass
