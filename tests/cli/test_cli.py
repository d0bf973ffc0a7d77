"""The `rejeu` command: its commands, their help, and the exit codes a shell sees."""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from rejeu import __version__, cli
from rejeu.cli import stack
from rejeu.errors import RejeuError, SpecError, StackError
from rejeu.state import open_store
from rejeu.state.lease import Lease, read_state

GOOD = (
    "stream: clicks\nevent_time: at\nlive: {topic: clicks, table: web.clicks}\nreplay: {source: {table: web.history}}\n"
)


def _commands() -> dict[str, argparse.ArgumentParser]:
    """Every command that the parser knows."""
    [commands] = [each for each in cli.parser()._actions if isinstance(each, argparse._SubParsersAction)]
    return dict(commands.choices)


COMMANDS = _commands()


@pytest.fixture
def streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The dags/streams folder of a checkout of its own."""
    folder = tmp_path / "dags" / "streams"
    folder.mkdir(parents=True)
    monkeypatch.setenv("REJEU_DAGS", str(tmp_path / "dags"))
    return folder


# Help


def test_every_command_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    assert caught.value.code == 0
    shown = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("    ")]
    assert set(COMMANDS) <= set(shown)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([command, "--help"])
    assert caught.value.code == 0
    assert f"rejeu {command}" in capsys.readouterr().out.casefold()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_command_says_what_it_does(command: str) -> None:
    for action in COMMANDS[command]._actions:
        assert action.help or not action.option_strings, f"rejeu {command} {action.option_strings} has no help"


def test_the_replays_help_lists_the_fields_of_its_request(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["replay", "--help"])
    assert "--checkpoint-seconds CHECKPOINT_SECONDS" in capsys.readouterr().out


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"rejeu {__version__}\n"


# Exit codes


@pytest.mark.parametrize("argv", [[], ["fly"], ["validate", "--hard"]])
def test_a_wrong_command_line_ends_with_2_and_shows_the_usage(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2
    assert "usage: rejeu" in capsys.readouterr().err.casefold()


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            StackError("port 8080 is taken: stop what listens there"),
            9,
            "rejeu: port 8080 is taken: stop what listens there\n",
        ),
        (RejeuError("[bold]as it is[/bold]"), 1, "rejeu: [bold]as it is[/bold]\n"),
        (KeyboardInterrupt(), 130, "rejeu: interrupted\n"),
    ],
)
def test_an_error_becomes_its_message_and_its_exit_code(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(stack, "status", fail)
    assert cli.main(["status"]) == code
    assert capsys.readouterr().err == said


def test_a_wrong_replay_ends_as_its_error_says(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["replay", "--topic=projects/p/topics/t", "--table=a.b", "--event-time=at", "--from=2021-05-01"]
    assert cli.main(argv) == 2
    assert capsys.readouterr().err.startswith("rejeu: '2021-05-01' has no time zone: end it with Z")


def test_the_shell_sees_the_exit_code(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("stream: [", encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-m", "rejeu.cli", "validate", wrong], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (SpecError.exit_code, "")
    assert ended.stderr.startswith("line 2, column 1: it is not YAML")
    assert str(wrong) in ended.stderr


# Libraries that are not installed


@pytest.mark.parametrize(
    ("library", "extra"),
    [("apache_beam", "local"), ("kubernetes", "launchers"), ("pyarrow", "replay"), ("google.cloud.storage", "replay")],
)
def test_a_library_that_is_not_there_is_told_with_what_brings_it(
    library: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: argparse.Namespace) -> int:
        raise ModuleNotFoundError(f"No module named {library!r}", name=library)

    monkeypatch.setattr(stack, "status", fail)
    assert cli.main(["status"]) == 1
    told = f"rejeu: {library} is not installed, and this needs it: run `pip install 'rejeu[{extra}]'`\n"
    assert capsys.readouterr().err == told


def test_a_module_of_ours_that_is_not_there_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: argparse.Namespace) -> int:
        raise ModuleNotFoundError("No module named 'rejeu.nothing'", name="rejeu.nothing")

    monkeypatch.setattr(stack, "status", fail)
    with pytest.raises(ModuleNotFoundError):
        cli.main(["status"])


# The folder of DAG files


def test_a_stack_without_a_dags_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["up", "--dags", str(tmp_path / "none")]) == 2
    assert f"{tmp_path}/none is no folder: name one with --dags" in capsys.readouterr().err


# Pace


@pytest.mark.parametrize(
    ("wish", "left"),
    [
        ("pause", {"paused": True, "speed": None}),
        ("resume", {"paused": False, "speed": None}),
        ("2.5", {"paused": False, "speed": 2.5}),
        ("max", {"paused": False, "speed": "max"}),
    ],
)
def test_a_wish_is_left_where_the_replay_hears_it(wish: str, left: dict[str, object], tmp_path: Path) -> None:
    uri = f"sqlite:{tmp_path / 'state.db'}"
    Lease.acquire(open_store(uri), "clicks", "host:1", 3.0)
    assert cli.main(["pace", "clicks", wish, "--state", uri]) == 0
    state = read_state(open_store(uri), "clicks")
    assert state is not None
    assert {name: getattr(state, name) for name in left} == left


@pytest.mark.parametrize("wish", ["fast", "1e308", "1e-300", "nan", "0"])
def test_a_pace_that_is_none_is_refused(wish: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = f"sqlite:{tmp_path / 'state.db'}"
    Lease.acquire(open_store(uri), "clicks", "host:1", 3.0)
    assert cli.main(["pace", "clicks", wish, "--state", uri]) == 2
    assert f'speed: it is {wish}: it must be a number from 0.001 to 1,000,000, or "max"' in capsys.readouterr().err


# env


@pytest.mark.parametrize("value", ["$(echo run)", "`echo run`", "it's", 'a "b" $HOME', "a\nb", "\\", "é", ""])
def test_a_shell_takes_the_stacks_variables_as_they_are(
    value: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack.homes, "running", Path)
    monkeypatch.setattr(stack.homes, "stack_of", lambda _: SimpleNamespace(variables=lambda: {"REJEU_HOME": value}))
    assert cli.main(["env"]) == 0
    script = capsys.readouterr().out + 'printf %s "$REJEU_HOME"'
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=True)
    assert done.stdout.decode() == value


# validate


def test_good_specs_are_told_one_a_line(streams: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("clicks", "views"):
        (streams / f"{name}.yaml").write_text(GOOD.replace("clicks", name), encoding="utf-8")
    assert cli.main(["validate"]) == 0
    assert capsys.readouterr() == (f"{streams}/clicks.yaml: ok\n{streams}/views.yaml: ok\n", "")


def test_that_there_is_no_spec_is_said(streams: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["validate"]) == 2
    assert f"{streams} holds no spec: name files, or a folder with --dags" in capsys.readouterr().err


def test_a_folder_can_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine" / "streams").mkdir(parents=True)
    (tmp_path / "mine" / "streams" / "clicks.yaml").write_text(GOOD, encoding="utf-8")
    assert cli.main(["validate", "--dags", str(tmp_path / "mine")]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/mine/streams/clicks.yaml: ok\n"


def test_a_bad_spec_is_told_beside_the_good_ones(streams: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (streams / "clicks.yaml").write_text(GOOD, encoding="utf-8")
    (streams / "views.yaml").write_text(GOOD + "colour: red\n", encoding="utf-8")
    assert cli.main(["validate"]) == SpecError.exit_code
    out, err = capsys.readouterr()
    assert out == f"{streams}/clicks.yaml: ok\n"
    assert err.startswith("colour: there is no such field. Fields here: stream, ")
    assert err.rstrip().endswith(f"({streams}/views.yaml)")


def test_only_the_files_that_are_named_are_checked(streams: Path, tmp_path: Path) -> None:
    (streams / "bad.yaml").write_text("stream: [", encoding="utf-8")
    good = tmp_path / "good.yaml"
    good.write_text(GOOD, encoding="utf-8")
    assert cli.main(["validate", str(good)]) == 0


def test_named_files_are_held_to_names_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twins = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    for file in twins:
        file.write_text(GOOD, encoding="utf-8")
    assert cli.main(["validate", *map(str, twins)]) == SpecError.exit_code
    assert capsys.readouterr().err.count("'clicks' is also the stream of") == 2


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["validate", str(tmp_path / "none.yaml")]) == SpecError.exit_code
    assert "it cannot be read (No such file or directory). Check the path." in capsys.readouterr().err


def test_the_specs_of_the_project_are_good() -> None:
    assert cli.main(["validate"]) == 0


# schema


def test_the_schema_describes_every_field_and_refuses_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert {"stream", "event_time", "live"} == set(schema["required"])
    assert schema["additionalProperties"] is False


def test_the_schema_is_written_to_the_file_that_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "stream.schema.json"
    assert cli.main(["schema", "--write", str(file)]) == 0
    written = file.read_text(encoding="utf-8")
    assert capsys.readouterr().out == ""
    cli.main(["schema"])
    assert capsys.readouterr().out == written


# Demos


def test_a_stream_without_a_demo_is_refused_before_anything_starts(
    streams: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (streams / "clicks.yaml").write_text(GOOD)
    assert cli.main(["demo", "clicks"]) == StackError.exit_code
    assert "there is no demo of 'clicks': name one of crypto_rates, iot_sensors" in capsys.readouterr().err
