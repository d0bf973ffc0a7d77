"""The metric: what Cloud Monitoring counts as published to a topic, as of some minutes ago."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from rejeu.errors import RejeuError
from rejeu.gcp import clients
from rejeu.gcp.errors import asking_google
from rejeu.ports import ProbeKind, Reason, Signal, Verdict

METRIC: Final = "metric"
SAMPLING: Final = timedelta(seconds=60)
ASK_EVERY: Final = timedelta(seconds=15)
"""Knowledge grows by a sample a minute: asking more often costs and tells nothing."""
HISTORY: Final = timedelta(minutes=10)
"""How much further back a probe looks than it must, so that a new one knows of a silence that began before it."""
REQUEST_SECONDS: Final = 2.0
"""How long Cloud Monitoring may take to answer."""
DELAYS: Final = {
    "pubsub.googleapis.com/topic/send_request_latencies": timedelta(seconds=120),
    "pubsub.googleapis.com/topic/send_request_count": timedelta(seconds=181),
    "pubsub.googleapis.com/topic/send_message_operation_count": timedelta(seconds=240),
}
"""How long after its end a sample may take until it can be read, for each metric that counts publishes by their result.

The first is a distribution whose count is that of requests, the others are integers; the last is deprecated. Source:
https://cloud.google.com/monitoring/api/metrics_gcp_p_z#gcp-pubsub."""


class MetricProbe:
    """Silence is `silence` without a publish, of which one can be certain SAMPLING and the metric's delay later.

    A sample says that something was published between its start, when the signal was last seen for sure, and its end,
    from when on it is lost: a silence is known that much later still than its last publish. A check asks at most every
    ASK_EVERY, and blocks for REQUEST_SECONDS at most.
    """

    def __init__(
        self, project: str, topic: str, silence: timedelta, metric: str, last_seen: datetime | None = None
    ) -> None:
        """`topic` is its id. Silence counts from `last_seen`, else the first check, until there is a sample.

        Raises RejeuError where `metric` counts no publishes.
        """
        if metric not in DELAYS:
            raise RejeuError(f"watchdog.metric is {metric!r}: it must count what is published; use {', '.join(DELAYS)}")
        self._project = project
        self._filter = (
            f'metric.type = "{metric}" AND metric.labels.response_code = "success"'
            f' AND resource.type = "pubsub_topic" AND resource.labels.topic_id = "{topic}"'
        )
        self._subject = f"{metric.rpartition('/')[2]} of {topic}"
        self._limit = SAMPLING + DELAYS[metric] + silence
        self._last_seen = last_seen
        self._sampled: datetime | None = None
        self._began: datetime | None = None
        self._excused: datetime | None = None
        self._asked: datetime | None = None
        self._answered: datetime | None = None
        self._trouble = ""

    def check(self, now: datetime) -> Verdict:
        """FLOWING, SILENT, or UNKNOWN where there was no sample yet or no answer for long, which is never silence.

        Raises RejeuError where the metric may not be read.
        """
        self._began = self._began or now
        if self._asked is None or now >= self._asked + ASK_EVERY:
            self._asked = now
            self._ask(now)
        lost_at = max(filter(None, (self._last_seen, self._sampled, self._excused)), default=self._began)
        silent_at = lost_at + self._limit
        detail = self._knowledge(now)
        if self._answered is not None and silent_at <= self._answered:
            return Verdict(Signal.SILENT, self._last_seen, lost_at, detail, Reason.NOTHING_PUBLISHED, METRIC)
        flowing = self._sampled is not None and now < self._sampled + self._limit
        return Verdict(
            Signal.FLOWING if flowing else Signal.UNKNOWN,
            self._last_seen,
            detail=detail,
            probe=METRIC,
            look_again=max(silent_at, self._asked + ASK_EVERY),
        )

    def excuse(self, until: datetime) -> None:
        """Silence counts from then on: nothing was due before."""
        self._excused = max(until, self._excused or until)

    def _ask(self, now: datetime) -> None:
        from google.api_core.exceptions import ServerError, TooManyRequests

        what, remedy, role = f"{self._subject} cannot be read", "look at project and topic", "roles/monitoring.viewer"
        with asking_google(RejeuError, what, remedy, forbidden=f"grant {role}"):
            try:
                points = self._points(now)
            except (ServerError, TooManyRequests) as error:
                self._trouble = f"; Cloud Monitoring does not answer: {error}"
                return
        self._answered, self._trouble = now, ""
        counted = [each for each in points if each.value.int64_value or each.value.distribution_value.count]
        if counted:
            newest = max(counted, key=lambda point: point.interval.end_time.ToNanoseconds())
            self._sampled = newest.interval.end_time.ToDatetime(tzinfo=UTC)
            # Minutes need not begin with a sample: that which ended in this one may have begun in the one before.
            self._last_seen = self._sampled - 2 * SAMPLING

    def _points(self, now: datetime) -> list[Any]:
        """The topic's time series as one, a point for each minute.

        ALIGN_SUM takes integers and distributions alike, and fills no gap, while ALIGN_DELTA interpolates: source
        https://cloud.google.com/monitoring/api/ref_v3/rest/v3/projects.alertPolicies#aligner.
        """
        from google.cloud.monitoring_v3.types import Aggregation, ListTimeSeriesRequest, Point

        end = now.replace(second=0, microsecond=0)
        request: dict[str, Any] = {
            "name": f"projects/{self._project}",
            "filter": self._filter,
            "interval": {"start_time": end - self._limit - HISTORY, "end_time": end},
            "aggregation": {
                "alignment_period": SAMPLING,
                "per_series_aligner": Aggregation.Aligner.ALIGN_SUM,
                "cross_series_reducer": Aggregation.Reducer.REDUCE_SUM,
            },
            "view": ListTimeSeriesRequest.TimeSeriesView.FULL,
        }
        answer = clients.metric_client().list_time_series(request=request, timeout=REQUEST_SECONDS, retry=None)
        return [Point.pb(point) for series in answer for point in series.points]

    def _knowledge(self, now: datetime) -> str:
        """How old it is."""
        if self._sampled is None:
            return f"no sample of {self._subject} counts a publish yet{self._trouble}"
        age = round((now - self._sampled).total_seconds())
        return f"the newest sample of {self._subject} that counts a publish ends {age} s ago{self._trouble}"


PROBE = ProbeKind(lambda watched: MetricProbe(watched.project, watched.topic, watched.silence, watched.metric))
