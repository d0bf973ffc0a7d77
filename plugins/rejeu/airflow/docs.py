"""What the pages of all DAGs share: how they are laid out, and the facts of their stream, read from its spec."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import dedent

from rejeu.spec.model import Replay, StreamSpec


def page(spec: StreamSpec, summary: str, details: str) -> str:
    """A DAG's page, as Markdown: what it does, how, and what the stream is."""
    return "\n\n".join([summary, dedent(details).strip(), _facts(spec)])


def speed(replay: Replay) -> str:
    """The spec's speed, as a person writes it."""
    return replay.speed if isinstance(replay.speed, str) else f"{replay.speed:g}"


def table(rows: Iterable[Sequence[str]], head: Sequence[str]) -> str:
    """A Markdown table; what a cell cannot hold, a bar or a new line, is written so that it can."""
    return "\n".join(_row(row) for row in [head, ["---"] * len(head), *rows])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


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
    place = source.table or source.files or source.generator or source.api or source.reader
    return f"{f'`{place}`' if place else 'a query'} by `{spec.source_time}`, at speed {speed(replay)}"
