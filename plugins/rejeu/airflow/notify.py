"""What tells a person of an incident, in words, through a notifier of Airflow's; nothing here decides or repairs."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from datetime import datetime
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import BaseNotifier

from rejeu.bigquery.records import IncidentRow
from rejeu.errors import RequestError
from rejeu.ports import EndedBy
from rejeu.reconcile import Reconciliation
from rejeu.target import PREFIX, Target

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

ENDS: Final = {
    EndedBy.SIGNAL: "is back",
    EndedBy.NOTHING_DUE: "no row is due now",
    EndedBy.FINISHED: "the source has no further row",
    EndedBy.STOP: "the stream was stopped",
    EndedBy.NEXT: "was lost once more",
    EndedBy.MENDED: "rows may be missing, for what reads them was cut off and is made anew",
}
"""How a silence ended, in words."""
MOST_NAMED: Final = 20
"""Of many streams so many are named in a message."""


def notify(context: Context, subject: str, text: str, **facts: Any) -> None:
    """Have the target's notifier say this; its templates find it all as `{{ rejeu.subject }}`, `{{ rejeu.text }}` and
    so on. Without a notifier the task's log says it, and so it does where the notifier fails: this never raises.
    """
    path = Target.from_env().notifier
    if not path:
        log.warning("%s\n%s", subject, text)
        return
    try:
        _load(path)({**context, "rejeu": {"subject": subject, "text": text, **facts}})
    except Exception:  # whatever keeps a message from its reader, the repair must go on
        log.exception("the notifier %s failed and should have said: %s\n%s", path, subject, text)


def incident_text(row: IncidentRow) -> tuple[str, str]:
    """Subject and text for an incident that is over."""
    subject = f"{row.stream}: the signal was gone for {row.gap_seconds:.1f} s and {ENDS[row.ended_by]}"
    lines = [
        f"It was lost at {row.lost_at:%Y-%m-%d %H:%M:%S} UTC. {_sentence(row.cause)}",
        f"The {row.probe} saw it after {_seconds(row, row.detected_at)}; {_relaunch(row)}.",
        _rows(row),
        f"Run {row.dag_run_id} of {row.stream}.watchdog; `rejeu incidents {row.stream}` shows those before.",
    ]
    return subject, "\n".join(filter(None, lines))


def dropped_text(report: Reconciliation) -> tuple[str, str]:
    """Subject and text for rows that were published and did not get into the table by themselves."""
    subject = f"{report.stream}: {report.dropped:,} of {report.expected:,} rows were not written"
    lines = [
        _sentence(str(report)),
        "Dead letters have their reasons with them. What was missing had been dropped as late or as a duplicate, or "
        "went where nobody reads; it was published again.",
    ]
    return subject, "\n".join(lines)


def given_up_text(stream: str, cause: str) -> tuple[str, str]:
    """Subject and text for a silence that relaunches do not end: why, and what a person can do."""
    subject = f"{stream}: given up, the signal stays away until somebody acts"
    lines = [
        _sentence(cause),
        "What comes next in the source ends every replay: its log says how.",
        f"Once that is mended, trigger {stream}.live. To pass over the row, give it `from`, an instant after that row.",
    ]
    return subject, "\n".join(lines)


def orphaned_text(streams: Sequence[str]) -> tuple[str, str]:
    """Subject and text for streams that somebody wants and no valid spec declares any more."""
    names, more = ", ".join(streams[:MOST_NAMED]), len(streams) - MOST_NAMED
    named = f"{names} and {more:,} more" if more > 0 else names
    subject = (
        f"{len(streams)} of the streams that are live {'has' if len(streams) == 1 else 'have'} no valid spec: {named}"
    )
    lines = [
        "The file was broken, renamed or removed after the stream went live. A DAG called .invalid says what is wrong "
        "with a file.",
        "The patrol goes on to repair such a stream, by the spec that it went live with. Only its own DAGs are gone.",
        "Mend the file, or bring it back. Where nobody needs the stream any more, `rejeu orphans` says what belongs to "
        "it, and `rejeu orphans NAME --remove` stops and removes that.",
    ]
    return subject, "\n".join(lines)


def _load(path: str) -> BaseNotifier:
    """The notifier at this path, or what the callable there makes. Raises RequestError where that is none."""
    found = resolve_name(path)
    # A copy, for rendering fills a notifier's templates for good.
    notifier = copy.copy(found) if isinstance(found, BaseNotifier) else found()
    if not isinstance(notifier, BaseNotifier):
        rule = "it must name a BaseNotifier, or a callable that makes one without arguments"
        raise RequestError(f"{PREFIX}NOTIFIER is {path!r}: {rule}, such as my_company.notifiers.on_call")
    return notifier


def _relaunch(row: IncidentRow) -> str:
    if row.ended_by is EndedBy.MENDED:
        return "since when rows had been missing, nobody knows"
    if row.relaunched_at is None:
        return "nobody here can relaunch what somebody else publishes"
    return f"the replay was relaunched after {_seconds(row, row.relaunched_at)} ({row.launcher})"


def _rows(row: IncidentRow) -> str:
    late = None if row.rows_owed is None else f"{row.rows_owed} rows came late"
    lost = None if row.rows_lost is None else f"{row.rows_lost} are lost"
    return _sentence(", ".join(filter(None, (late, lost))))


def _seconds(row: IncidentRow, moment: datetime) -> str:
    return f"{(moment - row.lost_at).total_seconds():.1f} s"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""
