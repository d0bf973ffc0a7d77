"""A Cloud Monitoring of one project's publish metrics, on the real wire: gRPC and the service's own messages.

It counts a list of publishes in samples that end every minute, and shows each only once its delay is over, by a clock
that the test sets. It refuses filters, intervals and aggregations that the metric does not allow, as Cloud Monitoring's
reference says, and everything with the status in `refuses`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent import futures
from dataclasses import dataclass
from datetime import datetime, timedelta

import grpc
from google.cloud.monitoring_v3 import types

from rejeu.timeline import EPOCH

SAMPLING = timedelta(seconds=60)
CLAUSE = re.compile(r'((?:metric|resource)\.(?:type|labels\.\w+)) = "([^"]*)"')
ALIGNERS = {
    "int64_value": {"DELTA", "RATE", "MIN", "MAX", "MEAN", "COUNT", "SUM", "STDDEV"},
    "distribution_value": {"DELTA", "SUM", "PERCENTILE_99", "PERCENTILE_95", "PERCENTILE_50", "PERCENTILE_05"},
}
"""What may be asked of a DELTA metric, by the comments of `Aggregation.Aligner`."""
Code = grpc.StatusCode


class Refusal(Exception):
    """A call that is answered with a status other than OK."""

    def __init__(self, text: str, code: grpc.StatusCode = Code.INVALID_ARGUMENT) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Kind:
    """What a metric's descriptor says."""

    value: str
    delay: timedelta
    labels: tuple[str, ...] = ("response_code",)


KINDS = {
    "pubsub.googleapis.com/topic/send_request_latencies": Kind("distribution_value", timedelta(seconds=120)),
    "pubsub.googleapis.com/topic/send_request_count": Kind(
        "int64_value", timedelta(seconds=181), ("response_class", "response_code")
    ),
    "pubsub.googleapis.com/topic/send_message_operation_count": Kind("int64_value", timedelta(seconds=240)),
}


class MetricServer:
    """`publishes` are the instants of requests to `topic` of `project`; `refused` those that Pub/Sub refused.

    Samples end `phase` after the full minute; with `zeros` quiet ones are there too and count nothing.
    """

    def __init__(self, project: str, topic: str) -> None:
        self.project, self.topic = f"projects/{project}", topic
        self.publishes: list[datetime] = []
        self.refused: list[datetime] = []
        self.now = EPOCH
        self.phase = timedelta(0)
        self.zeros = False
        self.refuses: grpc.StatusCode | None = None
        self.asked: list[types.ListTimeSeriesRequest] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        method = grpc.unary_unary_rpc_method_handler(
            self._list_time_series,
            request_deserializer=types.ListTimeSeriesRequest.deserialize,
            response_serializer=types.ListTimeSeriesResponse.serialize,
        )
        service = "google.monitoring.v3.MetricService"
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {"ListTimeSeries": method}),)
        )
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def close(self) -> None:
        """Answer no more."""
        self._server.stop(None).wait()

    def _list_time_series(
        self, request: types.ListTimeSeriesRequest, context: grpc.ServicerContext
    ) -> types.ListTimeSeriesResponse:
        self.asked.append(request)
        if self.refuses is not None:
            context.abort(self.refuses, f"refused with {self.refuses.name}")
        try:
            return types.ListTimeSeriesResponse(time_series=list(self._series(request)))
        except Refusal as refusal:
            context.abort(refusal.code, str(refusal))
            raise

    def _series(self, request: types.ListTimeSeriesRequest) -> Iterator[types.TimeSeries]:
        """One for each response code, or all in one where the request reduces them."""
        clauses, end = _clauses(request), request.interval.end_time
        kind = KINDS[clauses["metric.type"]]
        _check(request, clauses, kind)
        if clauses.get("resource.labels.topic_id", self.topic) != self.topic or request.name != self.project:
            return
        wanted = clauses.get("metric.labels.response_code")
        found = [
            self._samples(instants, kind, request.interval.start_time, end)
            for code, instants in (("success", self.publishes), ("internal", self.refused))
            if wanted in (None, code)
        ]
        if request.aggregation.cross_series_reducer is types.Aggregation.Reducer.REDUCE_SUM:
            found = [sum(found, Counter())]
        yield from (_as_series(_aligned(samples, end), kind) for samples in found if samples)

    def _samples(self, instants: Iterable[datetime], kind: Kind, start: datetime, end: datetime) -> Counter[datetime]:
        """The number of requests in each sample that is visible by now and ends in (start, end], by its end."""
        found = Counter(_end_of_period(instant, self.phase) for instant in instants if instant <= self.now)
        if self.zeros:
            sample = _end_of_period(start, self.phase)
            while sample <= end:
                found[sample] += 0
                sample += SAMPLING
        visible = [sample for sample in found if start < sample <= end and sample + kind.delay <= self.now]
        return Counter({sample: found[sample] for sample in visible})


def _end_of_period(instant: datetime, phase: timedelta) -> datetime:
    """Periods are (start, end]."""
    return EPOCH + phase - (EPOCH + phase - instant) // SAMPLING * SAMPLING


def _aligned(samples: Counter[datetime], end: datetime) -> Counter[datetime]:
    """Samples summed by periods that are counted back from the end of the interval."""
    periods: Counter[datetime] = Counter()
    for sample, count in samples.items():
        periods[end - (end - sample) // SAMPLING * SAMPLING] += count
    return periods


def _as_series(counts: Counter[datetime], kind: Kind) -> types.TimeSeries:
    """The newest point first, as Cloud Monitoring has it."""
    return types.TimeSeries(
        points=[
            types.Point(
                interval={"start_time": end - SAMPLING, "end_time": end},
                value={kind.value: {"count": counts[end]} if kind.value == "distribution_value" else counts[end]},
            )
            for end in sorted(counts, reverse=True)
        ]
    )


def _clauses(request: types.ListTimeSeriesRequest) -> dict[str, str]:
    matches = [CLAUSE.fullmatch(clause) for clause in request.filter.split(" AND ")]
    clauses = {match[1]: match[2] for match in matches if match}
    if len(clauses) < len(matches) or clauses.get("metric.type") not in KINDS:
        raise Refusal(f"Field filter had an invalid value of {request.filter!r}")
    return clauses


def _check(request: types.ListTimeSeriesRequest, clauses: dict[str, str], kind: Kind) -> None:
    aggregation = request.aggregation
    labels = {clause.rpartition(".")[2] for clause in clauses if clause.startswith("metric.labels.")}
    aligner = aggregation.per_series_aligner.name.removeprefix("ALIGN_")
    rules = {
        "filter": labels <= set(kind.labels) and clauses.get("resource.type", "pubsub_topic") == "pubsub_topic",
        "interval": request.interval.start_time < request.interval.end_time,
        "aggregation.perSeriesAligner": aligner in ALIGNERS[kind.value],
        "aggregation.alignmentPeriod": aggregation.alignment_period >= SAMPLING,
        "orderBy": not request.order_by,
    }
    for field, holds in rules.items():
        if not holds:
            raise Refusal(f"Field {field} had an invalid value")
    if aligner != "SUM" or aggregation.alignment_period != SAMPLING:
        raise Refusal("this server only sums by the minute", Code.UNIMPLEMENTED)
