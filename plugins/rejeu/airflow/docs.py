"""The words that a DAG's page shows: made from the spec, so that they never lag behind it."""

from __future__ import annotations

from textwrap import dedent

from rejeu.errors import SpecError
from rejeu.spec import StreamSpec

SUMMARIES = {
    "batch": "Loads one day's raw files into the batch table; its end is the hand-over to the stream.",
    "live": "Starts the streaming job and the replay, at the first row after the batch.",
    "watchdog": "Runs when the signal disappears: relaunches the replay at its cursor and records the incident.",
    "stop": "Stops the replay, drains the streaming job and silences the watchdog until the next live run.",
}


def summary(spec: StreamSpec, part: str) -> str:
    """One line for the list of DAGs."""
    return f"{spec.stream}: {SUMMARIES[part]}"


def page(spec: StreamSpec, part: str) -> str:
    """The DAG's documentation, as Markdown."""
    return f"{SUMMARIES[part]}\n\n{_DETAILS[part](spec)}\n\n{_facts(spec)}"


def invalid(error: SpecError) -> str:
    """What is wrong with a spec, as Markdown."""
    return dedent(f"""\
        # This stream's spec is not valid

        | | |
        |---|---|
        | file | `{error.file}` |
        | field | `{error.field or "the whole file"}` |
        | reason | {error.reason} |
        | remedy | {error.remedy} |

        Mend the file: this DAG then gives way to the stream's own. Other streams are not affected.""")


def _batch(spec: StreamSpec) -> str:
    assert spec.batch is not None
    return dedent(f"""\
        Raw files `{spec.batch.files}` are prepared by the pipeline `{spec.live.pipeline}`, the same that the stream
        uses, then a load job brings them into their day of `{spec.batch.table}`. A day that is loaded twice is as if
        loaded once.

        - **Scheduled**: `{spec.batch.schedule}` (UTC), for the day before.
        - **A range of days**:
          `airflow backfill create --dag-id {spec.stream}.batch --from-date 2021-04-01 --to-date 2021-04-30`.
        - **Loaded elsewhere**: trigger with `loaded_by: elsewhere`; the run waits for a load job outside Airflow.""")


def _live(spec: StreamSpec) -> str:
    return dedent(f"""\
        Makes sure of topic `{spec.live.topic}`, its subscription, `{spec.live.table}`, `{spec.dead_letters}` and the
        view `{spec.view}`; starts the streaming job, or adopts the one that runs; starts the replay.

        Where it starts: a `from` given in the form wins; a replay that lives is left alone; a cursor beyond the
        batch is gone on from; else the batch hands over ({spec.live.hand_over}). The task `hand_over` says which.""")


def _watchdog(spec: StreamSpec) -> str:
    return dedent(f"""\
        Silence is {spec.watchdog.silence.total_seconds():g} s without a row while rows are due; a quiet stretch of the
        source is not silence. Each run looks again before it does anything, relaunches at the cursor, waits for the
        signal and writes one row into the table of incidents. Needs no trigger by hand; pausing it pauses the watch.

        On managed Airflow the triggerer reads neither DAGs nor plugins: install the rejeu wheel there.""")


def _stop(spec: StreamSpec) -> str:
    return dedent(f"""\
        The cursor is saved: the next run of `{spec.stream}.live` goes on from it. Messages that the streaming job has
        not read wait in its subscription for up to 7 days.""")


_DETAILS = {"batch": _batch, "live": _live, "watchdog": _watchdog, "stop": _stop}


def _facts(spec: StreamSpec) -> str:
    source = spec.replay.source
    place = source.table or source.files or source.generator or "a query"
    return dedent(f"""\
        | stream | {spec.stream} |
        |---|---|
        | what | {spec.description} |
        | owner | {spec.owner} |
        | replays | `{place}` by `{spec.source_time}`, speed {spec.replay.speed} |
        | topic | `{spec.live.topic}` |
        | streaming table | `{spec.live.table}` |
        | live view | `{spec.view}` |""")
