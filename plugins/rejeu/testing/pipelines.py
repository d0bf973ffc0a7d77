"""The rules that every pipeline keeps, as a class of tests for a pipeline's author; its tests need Beam.

class TestMine(PipelineContract):
    name = "mine"
    messages = (b'{"at": "2026-11-20T12:00:00Z"}',)
    wrong = (b"{}",)
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

from rejeu import extensions
from rejeu.jobs.request import PipelineRequest
from rejeu.spec.pipelines import PIPELINES

STREAM: Final = "tried"
LOOK: Final = """
import sys
sys.modules["apache_beam"] = None  # whoever imports it fails
from rejeu.spec.pipelines import PIPELINES
PIPELINES[sys.argv[1]]
"""


class PipelineContract:
    """Subclass it, and give its attributes."""

    name: ClassVar[str]
    """The name that specs call the pipeline by."""
    messages: ClassVar[Sequence[bytes]]
    """Bodies of messages that it makes rows of."""
    wrong: ClassVar[Sequence[bytes]]
    """Bodies that it refuses, each of which becomes a dead letter."""

    def test_its_record_is_read_where_no_beam_is(self) -> None:
        read = subprocess.run(
            [sys.executable, "-c", LOOK, self.name],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | extensions.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert read.returncode == 0, (
            f"Airflow reads the record and has no Beam; import it in the transform:\n{read.stderr}"
        )

    def test_messages_become_rows_that_fit_its_columns(self) -> None:
        from beam_jobs.transforms.validate import fault_finder

        record = PIPELINES[self.name]

        def check(rows: list[Any]) -> None:
            assert rows, "none of the messages became a row"
            if record.columns is not None:
                fault_of = fault_finder(record.columns)
                faults = [fault for row in rows if (fault := fault_of(row.values))]
                assert faults == [], f"rows do not fit the columns: {faults}"
                missing = [
                    column.name for column in record.columns if all(column.name not in row.values for row in rows)
                ]
                assert missing == [], f"no row has these columns: {missing}"

        self._run(self.messages, rows=check, dead=_none)

    def test_a_wrong_message_is_a_dead_letter_with_a_reason_and_the_others_are_rows(self) -> None:
        def check_letters(letters: list[Any]) -> None:
            reasons = [letter.values["reason"] for letter in letters]
            told = f"{len(self.wrong)} wrong messages, and dead letters with these reasons: {reasons}"
            assert len(reasons) == len(self.wrong), told
            assert all(reasons), told

        def check_rows(rows: list[Any]) -> None:
            assert rows, "the right messages became no rows beside the wrong ones"

        self._run([*self.messages, *self.wrong], rows=check_rows, dead=check_letters)

    def test_it_travels_to_other_machines(self) -> None:
        from apache_beam.internal import pickler

        pickler.loads(pickler.dumps(self._transform()))

    def _transform(self) -> Any:
        """The transform, as a job makes it of its request."""
        record = PIPELINES[self.name]
        seconds = record.windows.seconds if record.windows else None
        request = PipelineRequest.of(stream=STREAM, pipeline=self.name, window_seconds=seconds)
        return importlib.import_module(record.module).transform(request)

    def _run(
        self, bodies: Sequence[bytes], rows: Callable[[list[Any]], None], dead: Callable[[list[Any]], None]
    ) -> None:
        """Run the transform on these bodies in this process, and check what it gives."""
        import apache_beam as beam
        from apache_beam.runners.portability.fn_api_runner import FnApiRunner
        from apache_beam.testing.test_pipeline import TestPipeline
        from apache_beam.testing.util import assert_that

        from beam_jobs.transforms.records import Message

        messages = [Message(f"{STREAM}/{number}/k/0", body, {}) for number, body in enumerate(bodies)]
        # What Beam calls DirectRunner tries to download another runner first.
        with TestPipeline(runner=FnApiRunner()) as pipeline:
            made, letters = pipeline | beam.Create(messages) | self._transform()
            assert_that(made, rows, "rows")
            assert_that(letters, dead, "dead letters")


def _none(letters: list[Any]) -> None:
    reasons = [letter.values["reason"] for letter in letters]
    assert reasons == [], f"messages that should become rows are dead letters: {reasons}"
