"""The local stack as its users meet it: real servers, real signals, and a look for what is left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import psutil
import pytest

from rejeu.errors import StackError
from rejeu.local.processes.leftovers import marked
from rejeu.local.stack.settings import stack_id
from rejeu.local.stack.stack import PartStatus, Stack
from tests.paths import ROOT

pytestmark = [pytest.mark.emulated, pytest.mark.timeout(1200)]

QUICK = ("storage", "metadata")
SLOW = ("storage", "metadata", "bigquery")
UP = """
import sys
from pathlib import Path
from rejeu.local.stack.stack import Stack
dags, home, parts = sys.argv[1:]
Stack(Path(dags), Path(home)).up(lambda text: print(text, flush=True), parts.split(","))
"""


def eventually(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def left_of(home: Path) -> list[str]:
    """The commands of the processes that a stack has, or has left."""
    return [" ".join(process.cmdline()) for process in marked(stack_id(home.resolve()))]


def states(stack: Stack) -> dict[str, str]:
    return {status.part: status.state for status in stack.status()}


def part(stack: Stack, name: str) -> PartStatus:
    return next(status for status in stack.status() if status.part == name)


def stack_in(home: Path) -> Stack:
    """The stack that lives there, whose Airflow has the DAG of these tests alone."""
    return Stack(Path(os.environ["REJEU_DAGS"]), home)


@pytest.fixture(autouse=True, scope="module")
def _own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    dags = tmp_path_factory.mktemp("dags")
    with pytest.MonkeyPatch.context() as environment:
        for name in ("PUBSUB_EMULATOR_HOST", "REJEU_STACK", "REJEU_UI_PORT"):
            environment.delenv(name, raising=False)
        environment.setenv("REJEU_DAGS", str(dags))
        environment.setenv("PYTHONPATH", f"{ROOT}/plugins{os.pathsep}{ROOT}")
        yield


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack that is not up; whatever the test starts of it ends with the test."""
    stack = stack_in(tmp_path)
    yield stack
    stack.down()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `up` in a process group of its own, as a terminal does."""
    started: list[subprocess.Popen[str]] = []

    def begin(*parts: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", UP, os.environ["REJEU_DAGS"], str(tmp_path), ",".join(parts)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()
    stack_in(tmp_path).down()


def test_down_may_be_called_at_any_time(tmp_path: Path) -> None:
    stack = stack_in(tmp_path / "never" / "was")
    stack.down()
    assert not (tmp_path / "never").exists()

    stack.up(parts=QUICK)
    begun = time.monotonic()
    stack.down()
    stack.down()

    assert time.monotonic() - begun < 8
    assert left_of(tmp_path / "never" / "was") == []


def test_a_stack_that_is_not_up_says_how_to_start_it(stack: Stack) -> None:
    with pytest.raises(StackError, match="start it with `rejeu up`"):
        stack.env()
    assert set(states(stack).values()) == {"stopped"}


def test_down_ends_what_a_killed_supervisor_left(stack: Stack, tmp_path: Path) -> None:
    stack.up(parts=QUICK)
    supervisor = next(each for each in marked(stack.env()["REJEU_CLIENT"]) if "supervisord" in " ".join(each.cmdline()))
    supervisor.kill()
    eventually(lambda: states(stack)["storage"] == "stopped")
    assert left_of(tmp_path) != []

    stack.down()

    assert left_of(tmp_path) == []


IN_A_SHELL = """
eval "$(rejeu env)"
sleep 600 > /dev/null &
echo $!
rejeu {command} | true
echo ${{PIPESTATUS[0]}}
"""


def in_a_shell(command: str, folder: Path) -> tuple[psutil.Process, int]:
    """Runs a command, of whose output nobody reads a word, in a shell that works with the stack of the folder.

    What else was started in that shell, and the command's exit code.
    """
    programs = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    script = ["bash", "-c", IN_A_SHELL.format(command=command)]
    ran = subprocess.run(script, cwd=folder, env=os.environ | programs, stdout=subprocess.PIPE, text=True, check=True)
    pid, code = ran.stdout.split()
    return psutil.Process(int(pid)), int(code)


def test_a_shell_that_works_with_a_stack_is_no_part_of_it(tmp_path: Path) -> None:
    stack = stack_in(tmp_path / ".rejeu")
    stack.up(parts=QUICK)

    editor, code = in_a_shell("down", tmp_path)

    try:
        assert (code, left_of(tmp_path / ".rejeu")) == (0, [])
        assert editor.is_running()
    finally:
        editor.kill()
        stack.down()


def test_an_up_whose_output_nobody_reads_is_finished(stack: Stack, tmp_path: Path) -> None:
    def closed(_text: str) -> None:
        raise SystemExit(1)  # so rich leaves a closed pipe

    stack.up(closed, parts=QUICK)

    assert states(stack)["storage"] == "running"


def test_up_after_a_killed_supervisor_starts_anew(stack: Stack, tmp_path: Path) -> None:
    stack.up(parts=["metadata"])
    old = part(stack, "metadata").pid
    next(each for each in marked(stack_id(tmp_path)) if "supervisord" in " ".join(each.cmdline())).kill()

    stack.up(parts=["metadata"])

    assert part(stack, "metadata").pid != old
    assert len(left_of(tmp_path)) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["its first process is there", "a part is well"])
def test_an_up_that_is_interrupted_leaves_nothing(
    moment: str, number: signal.Signals, up: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = up(*SLOW)
    if moment == "a part is well":
        assert process.stdout is not None
        assert "is well" in process.stdout.readline()
    else:
        eventually(lambda: left_of(tmp_path) != [])

    os.killpg(process.pid, number)

    assert process.wait(timeout=8) == {signal.SIGINT: -signal.SIGINT}.get(number, 128 + number)
    assert left_of(tmp_path) == []


def test_more_ctrl_c_while_it_cleans_up_changes_nothing(
    up: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = up(*SLOW)
    eventually(lambda: left_of(tmp_path) != [])

    while process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.05)

    assert left_of(tmp_path) == []


def test_down_cleans_up_after_an_up_that_was_killed(
    up: Callable[..., subprocess.Popen[str]], stack: Stack, tmp_path: Path
) -> None:
    process = up(*SLOW)
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.wait()
    assert left_of(tmp_path) != []

    stack.down()

    assert left_of(tmp_path) == []


def test_two_ups_at_once_are_refused(up: Callable[..., subprocess.Popen[str]], stack: Stack, tmp_path: Path) -> None:
    first = up(*QUICK)
    eventually(lambda: left_of(tmp_path) != [])

    with pytest.raises(StackError, match="one at a time"):
        stack.up(parts=QUICK)

    assert first.wait(timeout=20) == 0
    assert states(stack)["storage"] == "running"


def test_a_part_that_dies_is_named_with_its_last_words_and_its_log(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "bigquery").mkdir()
    (tmp_path / "bigquery" / "bqemulator.duckdb").write_text("not a database" * 1000)

    with pytest.raises(StackError) as refused:
        stack.up(parts=SLOW)

    assert "bigquery died while the stack started" in str(refused.value)
    assert f"{tmp_path}/logs/bigquery.log" in str(refused.value)
    assert "not a valid DuckDB database file" in str(refused.value)
    assert left_of(tmp_path) == []


def test_a_pubsub_emulator_that_is_given_must_answer(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:1")

    with pytest.raises(StackError, match=r"PUBSUB_EMULATOR_HOST is '127\.0\.0\.1:1'.*must answer"):
        stack.up(parts=QUICK)


def test_a_pubsub_emulator_that_is_given_is_used_and_left_alone(
    stack: Stack, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = stack_in(tmp_path_factory.mktemp("other"))
    other.up(parts=["pubsub"])
    address = part(other, "pubsub").address
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", address)
    try:
        stack.up(parts=("pubsub", "metadata"))

        assert part(stack, "pubsub") == PartStatus("pubsub", "external", None, address)
        assert stack.env()["PUBSUB_EMULATOR_HOST"] == address
        stack.down()
        assert part(other, "pubsub").state == "running"
    finally:
        other.down()


def test_without_gcloud_the_built_in_pubsub_serves(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    stack.up(parts=["pubsub"])

    pubsub = part(stack, "pubsub")
    assert "rejeu.local.servers.pubsub" in psutil.Process(pubsub.pid).cmdline()
    with grpc.insecure_channel(pubsub.address) as channel:
        topics = channel.unary_unary("/google.pubsub.v1.Publisher/ListTopics")
        assert topics(b"\x0a\x14projects/rejeu-local", timeout=5) == b""
