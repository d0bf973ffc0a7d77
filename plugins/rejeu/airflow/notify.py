"""What tells a person of an incident, in words, through a notifier of Airflow's; nothing here decides or repairs."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier

from rejeu.errors import RequestError
from rejeu.target import PREFIX, Target
from rejeu.timeline import parse_instant

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)


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


def incident_text(row: Mapping[str, Any]) -> tuple[str, str]:
    """Subject and text for an incident that is over: a row of its table, with instants as text."""
    gap = row["gap_seconds"]
    end = "until nobody waited for it any more" if gap is None else f"for {gap:.1f} s and is back"
    subject = f"{row['stream']}: the signal was gone {end}"
    lines = [
        f"It was lost at {parse_instant(row['lost_at']):%Y-%m-%d %H:%M:%S} UTC. {_sentence(row['cause'])}",
        f"The {row['probe']} saw it after {_seconds(row, 'detected_at')}; {_relaunch(row)}.",
        _rows(row),
        f"Run {row['dag_run_id']} of {row['stream']}.watchdog; `rejeu incidents {row['stream']}` shows those before.",
    ]
    return subject, "\n".join(filter(None, lines))


def given_up_text(stream: str, cause: str) -> tuple[str, str]:
    """Subject and text for a silence that relaunches do not end: why, and what a person can do."""
    subject = f"{stream}: given up, the signal stays away until somebody acts"
    lines = [
        _sentence(cause),
        "What comes next in the source ends every replay: its log says how.",
        f"Once that is mended, trigger {stream}.live. To pass over the row, give it `from`, an instant after that row.",
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


def _relaunch(row: Mapping[str, Any]) -> str:
    if row["relaunched_at"] is None:
        return "nobody here can relaunch what somebody else publishes"
    return f"the replay was relaunched after {_seconds(row, 'relaunched_at')} ({row['launcher']})"


def _rows(row: Mapping[str, Any]) -> str:
    late = None if row["rows_owed"] is None else f"{row['rows_owed']} rows came late"
    lost = None if row["rows_lost"] is None else f"{row['rows_lost']} are lost"
    return _sentence(", ".join(filter(None, (late, lost))))


def _seconds(row: Mapping[str, Any], moment: str) -> str:
    return f"{(parse_instant(row[moment]) - parse_instant(row['lost_at'])).total_seconds():.1f} s"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""
