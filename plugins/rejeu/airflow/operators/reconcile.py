"""The operator of `<stream>.reconcile`: has a job compare and heal, and remembers what it found."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from pydantic import ValidationError

from rejeu.airflow.notify import dropped_text, notify
from rejeu.airflow.operators.base import JobOperator
from rejeu.bigquery.records import Comparison, ReconciliationRow
from rejeu.errors import LaunchError, translated
from rejeu.ports import JobState
from rejeu.reconcile import (
    Reconciliation,
    Span,
    read_done,
    reconcile_request,
    remember_done,
    span_to_compare,
)
from rejeu.spec.names import reconcile_job
from rejeu.state.lease import read_state
from rejeu.target import Left
from rejeu.timeline import parse_instant

if TYPE_CHECKING:
    from airflow.sdk import Context


class Reconcile(JobOperator):
    """Compares the source with what was written, publishes again what is missing, and waits for it to come.

    What was found is the task's result, and a row of the table of reconciliations. A person is told where more than one
    row of a thousand did not get into the table by itself. Fails, and tries no more, where rows
    are missing at the end; skips where nothing was streamed since the last comparison.
    """

    limit = timedelta(hours=6)
    awaited = JobState.SUCCEEDED

    def execute(self, context: Context) -> Any:
        request = reconcile_request(self.spec, self.target, self._span(context), self._report(context))
        self.forget_old(Left.RECONCILIATIONS)
        # What is published again must not go where nobody reads.
        self.ensure_topic(context)
        return self.start(context, request)

    def resume(self, context: Context, event: dict[str, str]) -> dict[str, Any]:
        report = self._found(context)
        if report is not None and report.still_missing:
            self._record(report, context)
            raise AirflowFailException(f"{report}. {event['detail']}")
        result: dict[str, Any] = super().resume(context, event)
        return result

    def finish(self, context: Context) -> dict[str, Any]:
        report = self._found(context)
        if report is None:
            job, place = reconcile_job(self.spec.stream), self._report(context)
            raise LaunchError(f"{job} ended well and left no {place}: it was started for another run; clear this task")
        self._record(report, context)
        state = read_state(self.store, self.spec.stream)
        if state is not None:
            remember_done(self.store, state, report.span)
        return report.model_dump(mode="json")

    def _span(self, context: Context) -> Span:
        """What is compared. Raises RequestError for a wish beyond what was streamed."""
        state = None if self.spec.replay is None else read_state(self.store, self.spec.stream)
        wishes = (context["params"].get(name) for name in ("from", "until"))
        from_time, until_time = (parse_instant(wish) if wish else None for wish in wishes)
        done = read_done(self.store, self.spec.stream)
        span = None if state is None else span_to_compare(state, done, from_time, until_time)
        if span is None:
            raise AirflowSkipException(f"{self.spec.stream}: no replay of ours streamed anything that is not compared")
        return span

    def _report(self, context: Context) -> str:
        """Where this run's job writes what it found: where every worker can read it."""
        run = hashlib.blake2b(str(context["run_id"]).encode(), digest_size=6).hexdigest()
        return f"{self.target.left_by(Left.RECONCILIATIONS)}/{self.spec.stream}/{run}.json"

    def _found(self, context: Context) -> Reconciliation | None:
        from rejeu.gcp.small_files import read_text

        report = self._report(context)
        text = read_text(report)
        remedy = "remove it and clear this task, and the job writes it again"
        with translated(LaunchError, f"{report} cannot be read", (ValidationError, remedy)):
            return Reconciliation.model_validate_json(text) if text else None

    def _record(self, report: Reconciliation, context: Context) -> None:
        self.log.info("%s", report)
        found = report.model_dump(include=set(Comparison.model_fields))
        row = ReconciliationRow(**found, dag_run_id=str(context["run_id"]))
        self.insert_once(self.target.reconciliations, row)
        if report.must_be_told:
            notify(context, *dropped_text(report), **report.model_dump(mode="json"))
