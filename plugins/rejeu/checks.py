"""What a stream needs of others before it starts: it is looked at, and nothing is made or changed.

`live` begins with these checks, and `rejeu validate --source` is these checks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from rejeu.bigquery import types
from rejeu.errors import SourceError
from rejeu.jobs.build import replay_request
from rejeu.replay.source.check import check_source
from rejeu.replay.source.columns import output_columns, source_columns
from rejeu.spec.columns import Column
from rejeu.spec.model import StreamSpec
from rejeu.target import Target

if TYPE_CHECKING:
    from google.cloud.bigquery import Client
    from google.cloud.pubsub_v1 import SubscriberClient

SHOWN: Final = 5
"""How many names are listed."""
SOURCE: Final = "source"
Check: TypeAlias = Callable[[], str]
"""Looks at one thing, and says in a few words what it found. Raises RejeuError where that will not do."""


def checks(
    spec: StreamSpec, target: Target, bigquery: Callable[[], Client], subscriber: Callable[[], SubscriberClient]
) -> dict[str, Check]:
    """All of a stream's by what they look at, in the order of its rows; clients are made when they are needed."""
    return {
        SOURCE: lambda: look_at_source(spec, target, bigquery()),
        "topic": lambda: look_at_topic(spec, target, subscriber()),
        "tables": lambda: look_at_tables(spec, target, bigquery()),
    }


def check_request(spec: StreamSpec, target: Target) -> None:
    """Raises RequestError where the replay could not be started, whatever its source holds; nobody is asked."""
    if spec.replay is not None:
        replay_request(spec, target, None, None)
        check_source(spec.replay.source)


def look_at_source(spec: StreamSpec, target: Target, bigquery: Client) -> str:
    """Raises RequestError and SourceError where the replay could not begin to read."""
    from google.api_core.exceptions import Forbidden

    if spec.replay is None:
        return "somebody else publishes"
    check_request(spec, target)
    try:
        columns = source_columns(spec, target, bigquery)
    except SourceError as error:
        # The replay's account may read it, and this one need not, unless the tables are made like it.
        if not isinstance(error.__cause__, Forbidden) or spec.pipeline.columns is None:
            raise
        return f"this account may not look at it: {error}"
    if columns is None:
        return f"{spec.replay.source.api}, which the replay alone asks"
    time = _check_time(spec, columns)
    for name in spec.source_key:
        _check_key(spec, name, columns)
    key = f"the key is {', '.join(spec.source_key)}" if spec.source_key else "the key is the whole row"
    return f"{len(columns)} columns; the time is {spec.source_time}, {time.type}; {key}"


def look_at_topic(spec: StreamSpec, target: Target, subscriber: SubscriberClient) -> str:
    """Raises RequestError where a subscription is there that cannot serve the stream."""
    from rejeu.gcp.topics import look_at_subscriptions

    return "; ".join(look_at_subscriptions(subscriber, spec, target))


def look_at_tables(spec: StreamSpec, target: Target, bigquery: Client) -> str:
    """Raises SourceError where a table or a view is there that cannot serve the stream."""
    from rejeu.bigquery.ensure import missing_tables

    missing = missing_tables(bigquery, spec, target, output_columns(spec, target, bigquery))
    if not missing:
        return "all are there, as they are wanted"
    more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    return f"`live` makes {', '.join(missing[:SHOWN])}{more}"


def _check_time(spec: StreamSpec, columns: Sequence[Column]) -> Column:
    """The column of the event time. Raises SourceError where it is none."""
    name, column = spec.source_time, _find_column(spec, spec.source_time, "event time", columns)
    kind = types.find(column.type)
    if kind is None or kind.time is None:
        times = ", ".join(each.name for each in types.TYPES if each.time is not None)
        raise SourceError(
            f"{spec.stream}: the source's column {name} is {column.type}: an event time is one of {times}; name "
            "another column, or convert it in a query"
        )
    assert spec.replay is not None, "a source is a replay's"
    if kind.time.needs_unit and spec.replay.source.time_unit is None:
        raise SourceError(
            f"{spec.stream}: the source's column {name} is {column.type}, and its unit is unknown: set "
            "replay.source.time_unit to s, ms or us"
        )
    return column


def _check_key(spec: StreamSpec, name: str, columns: Sequence[Column]) -> None:
    """Raises SourceError where values of this column cannot tell rows apart."""
    column = _find_column(spec, name, "key", columns)
    if column.fields:
        fields = ", ".join(f"{name}.{field.name}" for field in column.fields)
        raise SourceError(f"{spec.stream}: the source's column {name} is a record, and no key; name one of {fields}")


def _find_column(spec: StreamSpec, name: str, role: str, columns: Sequence[Column]) -> Column:
    """The column of this name, `a.b` for a field of a record. Raises SourceError where there is no single one."""
    found, known = None, columns
    for depth, part in enumerate(parts := name.split(".")):
        found = next((each for each in known if each.name == part), None)
        if found is None or found.mode == "REPEATED":
            where = "the source" if depth == 0 else f"the source's column {'.'.join(parts[:depth])}"
            what = "no column" if found is None else "more than one value in"
            names = ", ".join(each.name for each in known) or "none, for it is no record"
            raise SourceError(f"{spec.stream}: {where} has {what} {part}: {role} {name} must be one of {names}")
        known = found.fields
    assert found is not None, "a name has a part"
    return found
