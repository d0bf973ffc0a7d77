"""The words that a DAG's page shows: made from the spec, so that they never lag behind it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import dedent

from rejeu.errors import SpecError
from rejeu.spec import StreamSpec

SUMMARIES = {
    "batch": "Loads one day's raw files into the batch table; its end is the hand-over to the stream.",
    "live": "Starts the streaming job and the replay, at the first row after the batch.",
    "watchdog": "Runs when the signal disappears: relaunches the replay at its cursor and records the incident.",
    "stop": "Stops the replay and the streaming job, and tells the watchdog to expect silence until the next live run.",
}


def summary(spec: StreamSpec, part: str) -> str:
    """One line for the list of DAGs."""
    return f"{spec.stream}: {SUMMARIES[part]}"


def page(spec: StreamSpec, part: str) -> str:
    """The DAG's documentation, as Markdown."""
    return "\n\n".join([SUMMARIES[part], dedent(_DETAILS[part](spec)).strip(), _facts(spec)])


def invalid(error: SpecError) -> str:
    """What is wrong with a spec, as Markdown."""
    facts = table(
        [
            ("file", f"`{error.file}`"),
            ("field", f"`{error.field}`" if error.field else "the whole file"),
            ("reason", error.reason),
            ("remedy", error.remedy),
        ],
        head=("", ""),
    )
    return "\n\n".join(
        [
            "# This stream's spec is not valid",
            facts,
            "Mend the file: this DAG then gives way to the stream's own. Other streams are not affected.",
        ]
    )


def speed(spec: StreamSpec) -> str:
    """The spec's speed, as a person writes it."""
    return spec.replay.speed if isinstance(spec.replay.speed, str) else f"{spec.replay.speed:g}"


def table(rows: Iterable[Sequence[str]], head: Sequence[str]) -> str:
    """A Markdown table; what a cell cannot hold, a bar or a new line, is written so that it can."""
    return "\n".join(_row(row) for row in [head, ["---"] * len(head), *rows])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def _batch(spec: StreamSpec) -> str:
    assert spec.batch is not None
    return f"""
        The raw files `{spec.batch.files}` go through the pipeline `{spec.live.pipeline}`, the same that the stream
        uses; then a load job brings them into their day of `{spec.batch.table}`. A day that is loaded twice is as if
        loaded once.

        - **On schedule**: `{spec.batch.schedule}` (UTC), each run for the day before.
        - **One day, by hand**: trigger with `partition`.
        - **A range of days**:
          `airflow backfill create --dag-id {spec.stream}.batch --from-date 2021-04-01 --to-date 2021-05-01` loads April
        - **Loaded elsewhere**: trigger with `loaded_by: elsewhere`; the run waits for a load job outside Airflow.

        A run fails where the day is empty after its load. Rows that the pipeline refuses are in `{spec.dead_letters}`.
        """


def _live(spec: StreamSpec) -> str:
    begins = f"Each batch that ends starts a run (`{spec.stream}.batch`)." if spec.batch else "Runs by hand only."
    return f"""
        {begins} It makes what is missing of topic `{spec.live.topic}`, its subscription, `{spec.live.table}`,
        `{spec.dead_letters}` and the view `{spec.view}`; starts the streaming job, or adopts the one that runs; and
        starts the replay. The run ends when rows flow: the replay goes on without it.

        Where the replay starts, by the first rule that fits; the result of the task `hand_over` says which it was:

        1. A `from` given in the form wins: a replay that runs is ended and begins anew there, at the `speed` given.
        2. A replay that lives is left alone, and so is its speed.
        3. A cursor beyond the batch is gone on from: nothing is skipped, nothing comes twice.
        4. The batch hands over: the stream starts at the row, or the minute, after the batch's last row.
        5. Without batch and cursor, at the source's first row.
        """


def _watchdog(spec: StreamSpec) -> str:
    return f"""
        Silence is {spec.watchdog.silence.total_seconds():g} s without a row *while rows are due*; a quiet stretch of
        the source is not silence. Each run looks again before it does anything, relaunches the replay at its cursor,
        waits for the signal and writes one row into the table of incidents. A run that is skipped found the signal
        back, or the stream stopped.

        Nobody needs to trigger it. **Pausing it pauses the watch.**

        On managed Airflow the triggerer reads neither DAGs nor plugins: the rejeu wheel must be installed there.
        """


def _stop(spec: StreamSpec) -> str:
    return f"""
        Nothing is lost: the cursor is saved, and the next run of `{spec.stream}.live` goes on from it. Messages that
        the streaming job has not read wait in its subscription for up to 7 days.
        """


_DETAILS = {"batch": _batch, "live": _live, "watchdog": _watchdog, "stop": _stop}


def _facts(spec: StreamSpec) -> str:
    source = spec.replay.source
    place = source.table or source.files or source.generator
    rows = [
        ("what", spec.description),
        ("owner", spec.owner),
        ("replays", f"{f'`{place}`' if place else 'a query'} by `{spec.source_time}`, at speed {speed(spec)}"),
        ("topic", f"`{spec.live.topic}`"),
        ("batch table", f"`{spec.batch.table}`" if spec.batch else ""),
        ("streaming table", f"`{spec.live.table}`"),
        ("live view", f"`{spec.view}`"),
        ("dead letters", f"`{spec.dead_letters}`"),
    ]
    return table([row for row in rows if row[1]], head=("stream", f"`{spec.stream}`"))
