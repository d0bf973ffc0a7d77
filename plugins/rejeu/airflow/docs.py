"""The words that a DAG's page shows: made from the spec, so that they never lag behind it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import dedent

from rejeu.errors import SpecError
from rejeu.spec.model import Replay, StreamSpec

SUMMARIES = {
    "batch": "Loads one day's raw files into the batch table; its end is the hand-over to the stream.",
    "live": "Starts the streaming job and the replay, at the first row after the batch.",
    "watchdog": "Runs when the signal or a part disappears: relaunches the replay at its cursor, records the incident.",
    "reconcile": "Compares the streaming table with its source, and publishes again what is missing.",
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


def speed(replay: Replay) -> str:
    """The spec's speed, as a person writes it."""
    return replay.speed if isinstance(replay.speed, str) else f"{replay.speed:g}"


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
    if spec.replay is None:
        return f"""
        Runs by hand only. It makes what is missing of topic `{spec.live.topic}`, its subscription,
        `{spec.dead_letters}` and the view `{spec.view}`; starts the streaming job, or adopts the one that runs; and
        has the topic watched from now on. Somebody else publishes to it.
        """
    start = "the start of the batch's last window, which the stream counts anew"
    if spec.pipeline.windows is None:
        start = "the row, or the minute, after the batch's last row"
    begins = f"Each batch that ends starts a run (`{spec.stream}.batch`)." if spec.batch else "Runs by hand only."
    return f"""
        {begins} It makes what is missing of topic `{spec.live.topic}`, its subscription, `{spec.live.table}`,
        `{spec.dead_letters}` and the view `{spec.view}`; starts the streaming job, or adopts the one that runs; and
        starts the replay. The run ends when rows flow: the replay goes on without it.

        Where the replay starts, by the first rule that fits; the result of the task `hand_over` says which it was:

        1. A `from` given in the form wins: a replay that runs is ended and begins anew there, at the `speed` given.
        2. A replay that lives is left alone, and so is its speed.
        3. A cursor beyond the batch is gone on from: nothing is skipped, nothing comes twice.
        4. The batch hands over: the stream starts at {start}.
        5. Without batch and cursor, at the source's first row.
        """


def _watchdog(spec: StreamSpec) -> str:
    watchdog = spec.watchdog
    if spec.replay is None:
        repair = """
        Somebody else publishes this stream, so there is nothing to relaunch: a run writes the silence down, tells it
        to a person, and closes it when the signal is back. The streaming job is ours, and is restored."""
    else:
        repair = f"""
        Each run looks again before it does anything, relaunches the replay at its cursor, waits for the signal and
        writes one row into the table of incidents. It also restores what else is gone: the replay that stands by, and
        the streaming job. A run that is skipped found nothing to do.

        After {watchdog.attempts} relaunches that leave the stream where it was the watchdog gives up: the run fails
        and names the crash loop, most often a row that cannot be published. Mend it, then run `{spec.stream}.live`."""
    return f"""
        Silence is {watchdog.silence.total_seconds():g} s without a row *while rows are due*; a quiet stretch of
        the source is not silence. The probe: {", ".join(watchdog.probe)}.
        {repair}

        Nobody needs to trigger it. **Pausing it pauses the watch.** Where the triggerer is dead, `rejeu.patrol`
        starts it.

        On managed Airflow the triggerer reads neither DAGs nor plugins: the rejeu wheel must be installed there.
        """


def _reconcile(spec: StreamSpec) -> str:
    cron = spec.reconcile.schedule
    when = f"Runs by `{cron}` (UTC)" if cron else "Runs by hand"
    return f"""
        {when}, for what was streamed since the last comparison, or for the range that the form gives. It reads the
        source as the replay does, works out by row id what must be in `{spec.live.table}` or `{spec.dead_letters}`,
        and counts by minute and key what is there, missing or double. What is still missing after
        {spec.reconcile.settle.total_seconds():g} s is published again, those messages and no others.

        A row of the table of reconciliations says what was found; the run fails where rows are missing at its end. Rows
        that are there twice are harmless: the view `{spec.view}` shows each once.
        """


def _stop(spec: StreamSpec) -> str:
    return f"""
        Nothing is lost: the cursor is saved, and the next run of `{spec.stream}.live` goes on from it. Messages that
        the streaming job has not read wait in its subscription for up to 7 days.
        """


_DETAILS = {"batch": _batch, "live": _live, "watchdog": _watchdog, "reconcile": _reconcile, "stop": _stop}


def _facts(spec: StreamSpec) -> str:
    rows = [
        ("what", spec.description),
        ("owner", spec.owner),
        ("replays", _replays(spec, spec.replay) if spec.replay else "nothing: somebody else publishes"),
        ("topic", f"`{spec.live.topic}`"),
        ("batch table", f"`{spec.batch.table}`" if spec.batch else ""),
        ("streaming table", f"`{spec.live.table}`"),
        ("windows", _windows(spec)),
        ("live view", f"`{spec.view}`"),
        ("more views", ", ".join(f"`{spec.live.table}_{view.name}`" for view in spec.pipeline.views)),
        ("dead letters", f"`{spec.dead_letters}`"),
    ]
    return table([row for row in rows if row[1]], head=("stream", f"`{spec.stream}`"))


def _windows(spec: StreamSpec) -> str:
    windows, window = spec.pipeline.windows, spec.window
    if windows is None or window is None:
        return ""
    by = ", ".join(windows.key)
    if window.session is not None:
        return f"sessions of each {by}, ended by {window.session.total_seconds():g} s without a record"
    assert window.fixed is not None, "windows are sessions, or of one length"
    return f"of {window.fixed.total_seconds():g} s, by {by}"


def _replays(spec: StreamSpec, replay: Replay) -> str:
    source = replay.source
    place = source.table or source.files or source.generator or source.api
    return f"{f'`{place}`' if place else 'a query'} by `{spec.source_time}`, at speed {speed(replay)}"
