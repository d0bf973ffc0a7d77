"""The picture has every stream, every incident and every kill in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.patches import Polygon, Rectangle

from tests.chaos.stack.chart import INCIDENT, draw, paint
from tests.chaos.stack.feeds import FEEDS
from tests.chaos.stack.plan import Round, Victim
from tests.chaos.stack.result import Calm, Kill, Machine, Played, Pulse, Result, Summary
from tests.chaos.stack.verdict import Incident, Rows, Span

START = 1_795_000_000.0
ROWS = {feed.name: Rows(100, 0, 0, 0) for feed in FEEDS}
KILLS = (
    (Victim.REPLAY,),
    (Victim.SCHEDULER, Victim.REPLAY),
    (Victim.HOLDER,),
    (Victim.TRIGGERER,),
)


def result() -> Result:
    rounds = []
    for number, victims in enumerate(KILLS):
        at = START + 400 + 60 * number
        own = [Incident("single", at + 0.2, at + 2, at + 3, at + 5, "it died")] if Victim.REPLAY in victims else []
        killed = {Victim.REPLAY: 5.0, Victim.HOLDER: 1.3}
        silence = next((killed[each] for each in victims if each in killed), None)
        kills = [Kill(victim, at) for victim in victims]
        rounds.append(Played(Round(number, victims, 1, 1, 3), kills, silence=silence, incidents=own, rows=ROWS))
    calm = Calm(Span(START + 20, START + 320), 1, [Span(START + 100, START + 104)], 0, 0, 2, 2, ROWS)
    return Result(
        started=START,
        ended=START + 700,
        seed=1,
        kept=True,
        summary=Summary.of(rounds, calm),
        machine=Machine.measured(0.5),
        broken=[],
        calm=calm,
        rounds=rounds,
        mishaps=[],
        signal={feed.name: Pulse(START, [4] * 700) for feed in FEEDS},
    )


def test_the_picture_is_a_png_of_a_size_to_look_at(tmp_path: Path) -> None:
    file = tmp_path / "chaos.png"
    draw(result(), file)
    header = file.read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    assert int.from_bytes(header[16:20]) > 1_500


def test_every_stream_has_a_panel_with_its_incidents_and_the_last_one_has_the_silences() -> None:
    figure = paint(result())
    *signals, silences = figure.axes
    titles = [axes.get_title(loc="left") for axes in signals]
    assert [title.partition(":")[0] for title in titles] == [feed.name for feed in FEEDS]
    incidents = [
        sum(patch.get_facecolor()[:3] == pytest.approx(_rgb(INCIDENT)) for patch in axes.patches) for axes in signals
    ]
    assert incidents == [2, 0, 0]
    dots = sorted(float(line.get_ydata()[0]) for line in silences.lines if line.get_marker() == "o")  # type: ignore[arg-type, index]
    assert dots == [1.3, 5.0, 5.0]
    assert {text.get_text() for text in silences.texts} >= {"+ scheduler"}


def test_a_run_without_a_calm_and_without_kills_has_a_picture_too() -> None:
    bare = replace(result(), calm=None, rounds=[], summary=Summary.of([], None))
    figure = paint(bare)
    assert not [patch for axes in figure.axes for patch in axes.patches if isinstance(patch, Rectangle | Polygon)]
    assert "no calm played" in figure.get_suptitle()


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
