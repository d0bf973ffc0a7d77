"""The operators of `<stream>.live` and `<stream>.stop`: make sure, hand over, start, await, stop."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowRuntimeError

from rejeu.airflow.google import google_hook
from rejeu.airflow.operators.base import DRAIN_LIMIT, JobOperator, StreamOperator, WaitingOperator
from rejeu.airflow.triggers import DrainedJob, DrainTrigger, ReturnTrigger
from rejeu.bigquery import sql
from rejeu.errors import LaunchError
from rejeu.handover import Start, decide_start
from rejeu.jobs.build import replay_request, stream_job_request
from rejeu.jobs.request import CURSOR, ReplayRequest
from rejeu.ports import ENDED, JobState, Signal
from rejeu.state.apart import check_apart, go_live_apart
from rejeu.state.lease import read_state
from rejeu.state.live_record import remember_live
from rejeu.state.stream import announce, mark_unwanted, mark_wanted, rewind
from rejeu.timeline import HandOver, format_instant, parse_instant
from rejeu.watchdog.incidents import OVER

if TYPE_CHECKING:
    from airflow.sdk import Context
    from google.cloud import bigquery
    from google.cloud.pubsub_v1 import SubscriberClient

SIGNAL_LIMIT = timedelta(minutes=10)


class EnsureStream(StreamOperator):
    """Makes what is missing of topic, subscription, dataset, tables and views. What exists is mended, or refused.

    First it looks at all of that, and at the source: a stream that cannot run has nothing made for it. A topic or
    a table is refused that another stream of the state store feeds, with a spec or without one.
    """

    def __init__(self, *, asks_source: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.asks_source = asks_source

    def execute(self, context: Context) -> None:
        from rejeu.bigquery.ensure import ensure_tables
        from rejeu.replay.source.columns import output_columns

        if self.asks_source:
            self._refuse_unwatched(context)
        client = self.bigquery()
        check_apart(self.store, self.spec, self.target)
        self._look(client)
        remember_live(self.store, self.spec, self.target, goes_live=self.asks_source)
        self.ensure_topic(context)
        ensure_tables(client, self.spec, self.target, output_columns(self.spec, self.target, client))
        if self.spec.pipeline.serves_bigtable and self.target.bigtable:
            self._ensure_served()

    def _refuse_unwatched(self, context: Context) -> None:
        """Raises AirflowFailException where the watchdog is paused: a silence would be seen by nobody."""
        watchdog = f"{self.spec.stream}.watchdog"
        try:
            paused = context["ti"].get_dag(watchdog).is_paused
        except AirflowRuntimeError as error:
            self.log.warning("%s: whether %s is paused is not known: %s", self.spec.stream, watchdog, error)
            return
        if paused:
            raise AirflowFailException(
                f"{self.spec.stream}: {watchdog} is paused, so nobody would see a silence: switch it on, in the "
                f"list of DAGs or with `airflow dags unpause {watchdog}`, then clear this task"
            )

    def _look(self, client: bigquery.Client) -> None:
        """Raises RequestError and SourceError where the stream could not run."""
        from airflow.providers.google.cloud.hooks.pubsub import PubSubHook

        from rejeu.checks import SOURCE, check_request, checks

        def subscriber() -> SubscriberClient:
            return google_hook(PubSubHook).subscriber_client

        check_request(self.spec, self.target)
        for name, look in checks(self.spec, self.target, lambda: client, subscriber).items():
            if name != SOURCE or self.asks_source:
                self.log.info("%s: %s: %s", self.spec.stream, name, look())

    def _ensure_served(self) -> None:
        from airflow.providers.google.common.hooks.base_google import GoogleBaseHook
        from google.cloud.bigtable import Client

        from rejeu.gcp.bigtable import ensure_served

        # Airflow's own hook of Bigtable shows no client.
        credentials = google_hook(GoogleBaseHook).get_credentials()
        client = Client(project=self.target.project, credentials=credentials, admin=True)
        ensure_served(client, self.target.bigtable, self.spec.stream)


class HandOverInstant(StreamOperator):
    """Decides where the replay starts: the decision and its reason are the task's result (XCom).

    Where the batch ends, its table says: events coalesce, and the one that started the run may be older than others.
    """

    def execute(self, context: Context) -> dict[str, str | None]:
        params = context["params"]
        by_hand = parse_instant(params["from"]) if params.get("from") else None
        rule = HandOver(params.get("hand_over") or self.spec.hand_over)
        state = read_state(self.store, self.spec.stream)
        decision = decide_start(state, self._batch_max(), rule, by_hand, datetime.now(UTC))
        self.log.info("%s: %s", self.spec.stream, decision.reason)
        at = format_instant(decision.at) if decision.at else None
        return asdict(decision) | {"at": at}

    def _batch_max(self) -> datetime | None:
        """The last instant in the batch's table; None where there is none."""
        if self.spec.batch is None:
            return None
        table = self.target.table(self.spec.batch.table)
        (row,) = self.bigquery().query(sql.last_instant(table, self.spec.event_time)).result()
        found: datetime | None = row["last"]
        return found


class StartStreamJob(JobOperator):
    """Starts the streaming job, or adopts the running one, and waits until it reads."""

    def execute(self, context: Context) -> None:
        self.start(context, stream_job_request(self.spec, self.target))


class BeginWatch(StreamOperator):
    """Says that the stream is wanted: somebody else publishes it, and from now on their silence counts."""

    def execute(self, context: Context) -> None:
        go_live_apart(self.store, self.spec, self.target, lambda: mark_wanted(self.store, self.spec.stream))


class StartReplay(StreamOperator):
    """Starts the replay where `hand_over` says; leaves a living one alone, unless a start was given by hand."""

    template_fields = ("decision",)

    def __init__(self, *, decision: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.decision = decision
        self._request: ReplayRequest | None = None

    def execute(self, context: Context) -> None:
        start = Start(self.decision["start"])
        if start is Start.ADOPT:
            return
        instant = {
            Start.AT: parse_instant(self.decision["at"]) if self.decision["at"] else None,
            Start.RESUME: CURSOR,
            Start.FIRST_ROW: None,
        }[start]
        request = replay_request(self.spec, self.target, instant, context["params"].get("speed"))
        if context["ti"].try_number > 1 and self._runs(request):
            self.log.info("%s: an earlier try of this task started %s", self.spec.stream, request.job_name)
            return
        self._request = request
        with self.alone(context) as lock:
            self.stop_replays(request)
            lock.confirm()
            if start is Start.RESUME:
                rewind(self.store, self.spec)
            go_live_apart(self.store, self.spec, self.target, lambda: announce(self.store, request))
            job = self.start_replays(request)
        self.log.info("%s: started %s (%s): %s", self.spec.stream, job.name, job.detail, self.decision["reason"])

    def on_kill(self) -> None:
        """Whoever ends the task ends what it may have started."""
        if self._request is not None:
            self.stop_replays(self._request)

    def _runs(self, request: ReplayRequest) -> bool:
        """Whether the running replay is the one asked for; where one was to be replaced, the old one may still run."""
        job = self.replays.find(request.job_name)
        if job is None or job.state in {*ENDED, JobState.DRAINING}:
            return False
        state = read_state(self.store, self.spec.stream)
        # One that goes on at the cursor keeps the arguments of the replay before it.
        return request.from_ == CURSOR or (state is not None and state.request == tuple(request.to_argv()))


class AwaitSignal(WaitingOperator):
    """Waits, without a worker slot, until rows are acknowledged, or the replay lives and knows when the next is due.

    Fails, with the job's own last words, where it does not come to that.
    """

    def execute(self, context: Context) -> Any:
        return self.wait(context, ReturnTrigger.watching(self.spec, self.target), SIGNAL_LIMIT)

    def resume(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        signal = Signal[event["signal"]]
        if signal not in OVER or (signal is Signal.QUIET and not self._lives()):
            job = self.replays.find(replay_request(self.spec, self.target, None, None).job_name)
            why = event["detail"] if job is None else f"{event['detail']}; {job.name} is {job.state}: {job.detail}"
            # Another try of this task would only wait for the next replay.
            raise AirflowFailException(f"{self.spec.stream}: the replay was started and gives no signal: {why}")
        self.log.info("%s: the signal is %s", self.spec.stream, signal)
        return event

    def _lives(self) -> bool:
        """Whether a replay of ours is there, that no row is due for; a dead one may have known that, too."""
        if self.spec.replay is None:
            return True
        state = read_state(self.store, self.spec.stream)
        lease_until = None if state is None or state.holder is None else state.lease_until
        return lease_until is not None and lease_until > datetime.now(UTC)


class StopReplay(StreamOperator):
    """Tells the watchdog to expect silence, then lets the replay finish what it has in hand and end."""

    def execute(self, context: Context) -> dict[str, Any] | None:
        mark_unwanted(self.store, self.spec.stream)
        if self.spec.replay is not None:
            with self.alone(context):
                # Once more: whoever held the lock before may just have started it anew.
                mark_unwanted(self.store, self.spec.stream)
                self.stop_replays(replay_request(self.spec, self.target, None, None))
        state = read_state(self.store, self.spec.stream)
        return None if state is None else state.model_dump(mode="json", include={"status", "cursor", "published"})


class DrainStreamJob(WaitingOperator):
    """Ends the streaming job after what it has in hand; what it has not read waits in the subscription.

    One that aggregates is given the time first (`reconcile.settle`) in which it reads what the replay published last:
    a window that it writes half counted is counted anew by the next one, which begins at the cursor's window. Where
    somebody starts the stream again meanwhile, the job is left alone.
    """

    def execute(self, context: Context) -> Any:
        settle = timedelta() if self.spec.window is None else self.spec.reconcile.settle
        job = stream_job_request(self.spec, self.target).job_name
        drained = DrainedJob(name=job, after_seconds=settle.total_seconds(), stream=self.spec.stream)
        trigger = DrainTrigger.of(drained)
        return self.wait(context, trigger, settle + DRAIN_LIMIT)

    def resume(self, context: Context, event: dict[str, str]) -> str:
        if "error" in event:
            raise LaunchError(event["error"])
        return event["left"]
