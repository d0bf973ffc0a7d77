"""Ending processes by their mark: real ones, since it is about what the kernel says of them."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import psutil
import pytest

from rejeu.local.processes.leftovers import MARK, end, end_leftovers, family, marked

Start = Callable[..., subprocess.Popen[str]]
STACK = f"rejeu-test-{os.getpid()}"
OTHER = f"rejeu-other-{os.getpid()}"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); signal.pause()"
PATIENT = "import signal; print('on', flush=True); signal.pause()"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {PATIENT!r}])"


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a program with a stack's mark and waits for its first word."""
    started: list[subprocess.Popen[str]] = []

    def begin(program: str, stack: str = STACK) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", program], env={**os.environ, MARK: stack}, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        return process

    yield begin
    # With their children, which would hold the output open.
    for process in started:
        for each in family(process.pid):
            each.kill()
    for process in started:
        process.communicate()


def test_only_processes_of_the_stack_are_found(start: Start) -> None:
    ours = start(PATIENT)
    start(PATIENT, stack=OTHER)

    assert [process.pid for process in marked(STACK)] == [ours.pid]


def test_what_a_process_starts_carries_its_mark(start: Start) -> None:
    parent = start(PARENT)

    assert {process.pid for process in marked(STACK)} == {process.pid for process in family(parent.pid)}
    assert len(marked(STACK)) == 2


def test_a_process_that_renames_itself_keeps_its_mark(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Airflow's do; `SPT_NOENV` is in the environment of a stack."""
    monkeypatch.setenv("SPT_NOENV", "1")

    renamed = start(f"import setproctitle; setproctitle.setproctitle('airflow worker ' * 20); {PATIENT}")

    assert [process.pid for process in marked(STACK)] == [renamed.pid]


def test_the_caller_and_its_ancestors_are_spared() -> None:
    program = (
        "import sys; from rejeu.local.processes.leftovers import marked; print([p.pid for p in marked(sys.argv[1])])"
    )
    through_a_parent = (
        "import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', *sys.argv[1:]]).returncode)"
    )
    asked = subprocess.run(
        [sys.executable, "-c", through_a_parent, program, STACK],
        env={**os.environ, MARK: STACK, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert asked.stdout == "[]\n"


def test_a_process_that_ignores_sigterm_is_killed(start: Start) -> None:
    stubborn = start(STUBBORN)

    end([psutil.Process(stubborn.pid)], patience=0.1)

    assert stubborn.wait(timeout=1) == -9


def test_a_process_may_end_by_itself_first(start: Start) -> None:
    process = psutil.Process(start(PATIENT).pid)
    process.kill()
    process.wait()

    end([process], patience=0.1)


def test_nothing_is_left_after_a_sweep(start: Start) -> None:
    start(PARENT)
    start(STUBBORN)
    bystander = start(PATIENT, stack=OTHER)

    end_leftovers(STACK, patience=0.2)

    assert marked(STACK) == []
    assert bystander.poll() is None


def test_there_may_be_nothing_to_sweep() -> None:
    end_leftovers("rejeu-never-was", patience=60)


def test_the_family_of_a_process_that_is_gone_is_empty(start: Start) -> None:
    process = start(PATIENT)
    process.kill()
    process.wait()

    assert family(process.pid) == []
