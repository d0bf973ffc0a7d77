"""The demo: a stream's whole life on this machine, killed on the way, and compared with SQL at its end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from rejeu.bigquery.records import IncidentRow
from rejeu.errors import StackError
from rejeu.local.demos.explain import explain
from rejeu.local.demos.registry import data_of
from rejeu.local.demos.result import Result
from rejeu.local.processes.interrupts import interruptible
from rejeu.local.stack.airflow_api import AirflowApi
from rejeu.local.stack.parts import DEMO_DATA, PARTS
from rejeu.local.stack.stack import Stack
from rejeu.spec.files import FOLDERS
from rejeu.spec.model import StreamSpec
from rejeu.state import open_store
from rejeu.state.lease import read_state
from rejeu.state.model import Status, StreamState
from rejeu.state.stream import mark_unwanted
from rejeu.target import Target

SPEED: Final = 60
WAIT: Final = "REJEU_STREAMS_WAIT"
KILL_AFTER: Final = timedelta(seconds=8)
"""How long the stream flows before its replay is killed, and where it would go on for ever, after its repair."""
STEP_SECONDS: Final = 240.0
POLL_SECONDS: Final = 0.2


def run_demo(examples: Path, home: Path, spec: StreamSpec, report: Path, *, keep: bool, console: Console) -> int:
    """Run it; 0 only if every row is there once. Ends the stack unless it is to be kept."""
    stack = Stack(home / "dags", home)
    begun = time.monotonic()

    def say(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - begun:6.1f} s[/dim]  {text}", soft_wrap=True)

    finished = False
    with interruptible():
        try:
            stack.down()
            shutil.rmtree(home, ignore_errors=True)
            os.environ.setdefault("REJEU_SPEED", str(SPEED))
            os.environ |= {FOLDERS: str(_alone(spec, examples, home / "dags")), WAIT: "0"}
            say(f"starting emulators and Airflow; writing a day of {spec.stream} as files, and what comes after it")
            stack.up(lambda text: say(f"  {text}"), (*PARTS, DEMO_DATA))
            os.environ.update(stack.env())
            result = Demo(spec, stack, say).run(begun)
            report.parent.mkdir(parents=True, exist_ok=True)
            report.write_text(result.model_dump_json(indent=2) + "\n", encoding="utf-8")
            finished = True
        finally:
            if not (keep and finished):
                stack.down(say)
    _show(result, console)
    for sentence in explain(result):
        console.print(f"- {sentence}", markup=False)
    console.print(f"written to {report}", markup=False)
    if keep:
        console.print(
            f"Airflow   {stack.ui_url}   user {stack.login.user}, password {stack.login.password}", markup=False
        )
    return 0 if result.exact else 1


def _alone(spec: StreamSpec, examples: Path, dags: Path) -> Path:
    """Make a dags folder with this stream's spec and no other, which would run, too; returns the folder of specs."""
    folder = dags.resolve() / "streams"
    folder.mkdir(parents=True)
    for file in examples.glob("*.py"):
        shutil.copy(file, dags)
    shutil.copy(examples / "streams" / f"{spec.stream}.yaml", folder)
    return folder


class Demo:
    """The steps, one method each, in their order."""

    def __init__(self, spec: StreamSpec, stack: Stack, say: Callable[[str], None]) -> None:
        self._spec = spec
        self._target = Target.from_env(stack.env())
        self._store = open_store(self._target.state)
        self._airflow = AirflowApi(stack.ui_url, stack.login.user, stack.login.password)
        self._say = say
        written = json.loads((self._target.home / "demo-data.json").read_text(encoding="utf-8"))
        self._data = data_of(spec.stream)(spec, self._target, date.fromisoformat(written["day"]))

    def run(self, begun: float) -> Result:
        """The whole life of the stream."""
        self._batch()
        handover = self._live()
        killed_at = self._kill()
        self._await_repair()
        self._await_end()
        self._say("comparing the live view with the source, in SQL")
        end = self._state().cursor
        source_rows = self._data.expect(end)
        self._until(self._data.is_complete, "the last rows in the live view", pause=1.0, fatal=False)
        incident = self._incident()
        gap = (incident.resumed_at - killed_at).total_seconds()
        return Result.model_validate(
            {
                "stream": self._spec.stream,
                "source_rows": source_rows,
                **self._data.compare(),
                "panes": self._data.panes(),
                "further_checks": self._data.further_checks(end),
                "killed_at": _text(killed_at),
                "detected_at": _text(incident.detected_at),
                "relaunched_at": _text(incident.relaunched_at) if incident.relaunched_at else "",
                "resumed_at": _text(incident.resumed_at),
                "gap_seconds": round(gap, 2),
                "handover_seconds": round(handover, 2),
                "total_seconds": round(time.monotonic() - begun, 1),
                "epoch": self._state().epoch,
            }
        )

    def _batch(self) -> None:
        """The scheduled run of the batch DAG loads the day before."""
        dag_id = f"{self._spec.stream}.batch"
        self._until(lambda: dag_id in self._airflow.dag_ids() and self._airflow.runs(dag_id), f"a run of {dag_id}")
        run = self._airflow.follow(dag_id, self._airflow.runs(dag_id)[-1]["dag_run_id"], STEP_SECONDS, self._say)
        self._batch_ended = datetime.fromisoformat(run["end_date"])

    def _live(self) -> float:
        """The batch's end starts the live DAG; returns the seconds from there to the first message."""
        dag_id = f"{self._spec.stream}.live"
        self._until(lambda: self._airflow.runs(dag_id), f"a run of {dag_id}")
        self._airflow.follow(dag_id, self._airflow.runs(dag_id)[-1]["dag_run_id"], STEP_SECONDS, self._say)
        self._until(lambda: self._state().resumed_at, "the first message")
        first = self._state().resumed_at
        assert first is not None
        seconds = (first - self._batch_ended).total_seconds()
        self._say(f"the stream is live; the first message came {seconds:.1f} s after the batch")
        return seconds

    def _kill(self) -> datetime:
        """SIGKILL to the replay, in the middle of its work."""
        first = self._state().resumed_at
        assert first is not None
        self._until(lambda: datetime.now(UTC) >= first + KILL_AFTER, "some seconds of streaming")
        self._until(lambda: self._state().holder_process, "a replay that holds the stream's lease")
        state = self._state()
        if state.holder_process is None:
            raise StackError("the replay gave its lease back before the demo killed it: see `make logs`")
        _, pid = state.holder_process
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            raise StackError(f"the replay, process {pid}, ended before the demo killed it: see `make logs`") from None
        self._say(f"[bold]killed the replay[/bold] (SIGKILL to {pid}) after {state.published:,} rows")
        return datetime.now(UTC)

    def _await_repair(self) -> None:
        """The watchdog DAG notices, and brings the signal back."""
        dag_id = f"{self._spec.stream}.watchdog"
        epoch = self._state().epoch
        self._until(lambda: self._airflow.runs(dag_id), f"a run of {dag_id}")
        self._until(lambda: self._state().epoch > epoch and self._state().resumed_at, "the signal's return")
        self._say(f"the signal is back: epoch {self._state().epoch}, {self._state().owed:,} rows were owed")
        self._airflow.follow(dag_id, self._airflow.runs(dag_id)[0]["dag_run_id"], STEP_SECONDS, self._say)

    def _incident(self) -> IncidentRow:
        """The silence's row: where the watchdog's run ended before the silence, the patrol has it written."""
        self._until(lambda: self._data.last_incident() is not None, "the row of the silence", pause=1.0)
        incident = self._data.last_incident()
        assert incident is not None, "it was just there"
        return incident

    def _await_end(self) -> None:
        """The replay reaches the end of its source; one without an end is told to stop, and says where it was."""
        if self._data.endless:
            resumed = datetime.now(UTC)
            self._until(lambda: datetime.now(UTC) >= resumed + KILL_AFTER, "some more seconds of streaming")
            mark_unwanted(self._store, self._spec.stream)
        ended = Status.STOPPED if self._data.endless else Status.FINISHED
        self._until(lambda: self._state().status is ended, "the end of the source")
        self._say(f"the replay has ended: {self._state().published:,} rows since its return")

    def _state(self) -> StreamState:
        state = read_state(self._store, self._spec.stream)
        return state if state is not None else StreamState(stream=self._spec.stream)

    def _until(self, met: Callable[[], Any], what: str, pause: float = POLL_SECONDS, *, fatal: bool = True) -> None:
        deadline = time.monotonic() + STEP_SECONDS
        while not met():
            if time.monotonic() > deadline:
                if fatal:
                    raise StackError(
                        f"waited {STEP_SECONDS:g} s for {what}: see `make logs`, and the DAG runs in the UI"
                    )
                return
            time.sleep(pause)


def _text(instant: datetime) -> str:
    return instant.isoformat(timespec="milliseconds")


def _show(result: Result, console: Console) -> None:
    table = Table(title=f"{result.stream}: {'every row once' if result.exact else 'NOT EXACT'}", show_header=False)
    for name, value in result:
        if isinstance(value, dict):
            for each, count in value.items():
                table.add_row(f"{name.replace('_', ' ')}: {each.replace('_', ' ')}", f"{count:,}")
        else:
            table.add_row(name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value))
    console.print(table)
