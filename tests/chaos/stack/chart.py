"""The picture of a run: each stream's signal over time with what was done to it, and how long each silence lasted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from tests.chaos.stack.feeds import FEEDS
from tests.chaos.stack.plan import Victim
from tests.chaos.stack.result import Calm, Kill, Played, Pulse, Result, kind_of
from tests.chaos.stack.verdict import ALONE_MEDIAN_SECONDS, ALONE_P95_SECONDS, STANDBY_MEDIAN_SECONDS, Incident

INK, FAINT, CALM, INCIDENT = "#1f2933", "#9aa5b1", "#eef6f1", "#f5b7a8"
SIGNAL: Final = {"single": "#1f6feb", "pair": "#0f8b6d", "gaps": "#8250df"}
KINDS: Final = {
    "alone": ("#d1242f", "replay alone"),
    "together": ("#bf8700", "with another part"),
    "standby": ("#0f8b6d", "a standby takes over"),
}
STREAM_OF: Final = {
    Victim.REPLAY: "single",
    Victim.STREAM_JOB: "single",
    Victim.HOLDER: "pair",
    Victim.STANDBY: "pair",
}
STEP_SECONDS: Final = 2
"""The signal is drawn as steps of so many seconds."""
CEILING: Final = 2.5
"""The rows that were owed come all at once: the signal is cut off at so many times its usual height."""
SIZE, DOTS_PER_INCH = (16.0, 10.0), 130


def draw(result: Result, file: Path) -> None:
    """Write the picture as PNG."""
    figure = paint(result)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=DOTS_PER_INCH)


def paint(result: Result) -> Figure:
    """One panel a stream, above one of silences, over the same minutes."""
    figure = Figure(figsize=SIZE, layout=ConstrainedLayoutEngine(h_pad=0.08))
    *signals, silences = figure.subplots(len(FEEDS) + 1, 1, sharex=True, height_ratios=[*[1] * len(FEEDS), 1.5])
    kills = [kill for played in result.rounds for kill in played.kills]
    incidents = [incident for played in result.rounds for incident in played.incidents]
    for axes, feed in zip(signals, FEEDS, strict=True):
        own = [each for each in incidents if each.stream == feed.name]
        hits = [each for each in kills if STREAM_OF.get(each.victim, feed.name) == feed.name]
        _signal(axes, result, feed.name, own, hits)
        axes.set_title(f"{feed.name}: {feed.description}", loc="left", fontsize=10, color=INK)
    _silences(silences, result)
    silences.set_xlim(0, _minutes(result, result.ended))
    figure.suptitle(_title(result), fontsize=14, fontweight="bold", color=INK, x=0.01, ha="left")
    figure.legend(handles=_legend(), loc="outside lower center", ncols=7, fontsize=9, frameon=False)
    return figure


def _signal(axes: Axes, result: Result, stream: str, incidents: Sequence[Incident], kills: Sequence[Kill]) -> None:
    pulse, colour = result.signal[stream], SIGNAL[stream]
    minutes, rates = _steps(result, pulse)
    _calm(axes, result, result.calm)
    axes.fill_between(minutes, rates, step="post", color=colour, alpha=0.25, linewidth=0)
    axes.step(minutes, rates, where="post", color=colour, linewidth=0.8)
    top = CEILING * max(1.0, float(np.median(rates[rates > 0])) if (rates > 0).any() else 1.0)
    for each in incidents:
        axes.axvspan(_minutes(result, each.lost_at), _minutes(result, each.resumed_at), color=INCIDENT, linewidth=0)
    for kill in kills:
        at = _minutes(result, kill.at)
        if kill.victim in STREAM_OF:
            axes.plot(at, 0.93 * top, "v", color="#d1242f", markersize=5, zorder=3)
        else:
            axes.axvline(at, color=FAINT, linewidth=1.0, linestyle=":", zorder=3)
    axes.set_ylim(0, top)
    axes.set_ylabel("messages/s")
    _plain(axes)


def _silences(axes: Axes, result: Result) -> None:
    _calm(axes, result, result.calm)
    for seconds, words in (
        (ALONE_P95_SECONDS, f"p95 without a standby: {ALONE_P95_SECONDS:g} s"),
        (ALONE_MEDIAN_SECONDS, f"median without a standby: {ALONE_MEDIAN_SECONDS:g} s"),
        (STANDBY_MEDIAN_SECONDS, f"median with one: {STANDBY_MEDIAN_SECONDS:g} s"),
    ):
        axes.axhline(seconds, color=FAINT, linewidth=0.9, linestyle="--", zorder=1)
        axes.annotate(
            words, (0.004, seconds), (0, 2), ("axes fraction", "data"), "offset points", color=FAINT, fontsize=8
        )
    for played in result.rounds:
        if played.silence is not None:
            _dot(axes, result, played, played.silence)
    axes.set_yscale("log")
    axes.set_ylim(0.4, max(40.0, *(1.5 * (each.silence or 0) for each in result.rounds)) if result.rounds else 40.0)
    axes.set_yticks([0.5, 1, 2, 5, 10, 20, 40], ["0.5", "1", "2", "5", "10", "20", "40"])
    axes.set_ylabel("silence, seconds")
    axes.set_xlabel("minutes since the streams were live")
    axes.set_title("From the SIGKILL of a replay to its stream's next message", loc="left", fontsize=10, color=INK)
    _plain(axes)


def _dot(axes: Axes, result: Result, played: Played, silence: float) -> None:
    colour, _ = KINDS[kind_of(played.planned)]
    at = _minutes(result, played.kills[0].at)
    axes.plot(at, silence, "o", color=colour, markersize=7, markeredgecolor="white", zorder=3)
    others = [each for each in played.planned.victims if each not in (Victim.REPLAY, Victim.HOLDER)]
    for each in others:
        axes.annotate(
            f"+ {each}", (at, silence), (0, 7), textcoords="offset points", ha="center", fontsize=7.5, color=INK
        )


def _steps(result: Result, pulse: Pulse) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    whole = len(pulse.per_second) // STEP_SECONDS
    counts = np.array(pulse.per_second[: whole * STEP_SECONDS], dtype=float).reshape(whole, STEP_SECONDS)
    seconds = pulse.begin - result.started + STEP_SECONDS * np.arange(whole)
    return seconds / 60, counts.mean(axis=1)


def _calm(axes: Axes, result: Result, calm: Calm | None) -> None:
    if calm is None:
        return
    axes.axvspan(_minutes(result, calm.span.begin), _minutes(result, calm.span.end), color=CALM, linewidth=0, zorder=0)
    for each in calm.broker_pauses:
        axes.axvspan(_minutes(result, each.begin), _minutes(result, each.end), color=FAINT, alpha=0.5, linewidth=0)


def _title(result: Result) -> str:
    told = result.summary
    kills = f"{told.alone.count} kills of a replay alone: silence of {_seconds(told.alone.median)} in the median"
    standby = f"with a standby {_seconds(told.standby.median)}"
    calm = f"{told.false_relaunches} false relaunches" if result.calm else "no calm played"
    return f"{kills}, {_seconds(told.alone.p95)} at p95; {standby}; {told.incidents} incidents, {calm}"


def _legend() -> list[Line2D | Patch]:
    return [
        Line2D([], [], color="#d1242f", marker="v", linestyle="", label="a process of the stream killed"),
        Line2D([], [], color=FAINT, linestyle=":", label="a part of the stack killed"),
        Patch(color=INCIDENT, label="incident, as recorded"),
        Patch(color=CALM, label="calm (grey: the broker pauses)"),
        *(Line2D([], [], color=colour, marker="o", linestyle="", label=words) for colour, words in KINDS.values()),
    ]


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)


def _minutes(result: Result, at: float) -> float:
    return (at - result.started) / 60


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"
