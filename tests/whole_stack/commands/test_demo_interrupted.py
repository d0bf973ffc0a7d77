"""Ctrl-C at any moment of the demo leaves no process: at its start, and in the midst of it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rejeu.local.processes.leftovers import marked
from rejeu.local.stack.settings import stack_id

pytestmark = [pytest.mark.emulated, pytest.mark.timeout(1200)]


@pytest.mark.parametrize(("moment", "presses"), [("starting emulators", 1), ("crypto_rates.batch · prepare", 2)])
def test_ctrl_c_ends_everything_that_the_demo_started(tmp_path: Path, moment: str, presses: int) -> None:
    command = [sys.executable, "-m", "rejeu.cli", "demo"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True, env=_environment()
    ) as demo:
        assert demo.stdout is not None
        try:
            assert any(moment in line for line in demo.stdout), "the demo ended before"
        finally:
            for _ in range(presses):
                os.killpg(demo.pid, signal.SIGINT)
            demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert marked(stack_id(tmp_path / ".rejeu" / "demo")) == []


def _environment() -> dict[str, str]:
    unwanted = ("PUBSUB_EMULATOR_HOST", "REJEU_STACK", "REJEU_UI_PORT", "REJEU_STREAMS")
    return {name: value for name, value in os.environ.items() if name not in unwanted} | {"PYTHONUNBUFFERED": "1"}
