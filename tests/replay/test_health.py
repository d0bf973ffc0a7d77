"""The health check of a replay's container."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rejeu.jobs.request import ReplayRequest, Shard
from rejeu.replay.health import main, trouble
from rejeu.state import open_store
from rejeu.state.lease import Lease
from rejeu.state.model import Status

HOST = "container"
SECONDS = 3.0


@pytest.fixture
def request_(tmp_path: Path) -> ReplayRequest:
    return ReplayRequest.of(
        topic="projects/p/topics/t",
        file="rows.ndjson",
        event_time="at",
        state=f"sqlite:{tmp_path}/s.db",
        lease_seconds=SECONDS,
    )


def hold(request: ReplayRequest, host: str = HOST) -> Lease:
    return Lease.acquire(open_store(request.state), request.state_name, f"{host}:7", SECONDS)


def test_a_replay_is_well_while_it_holds_its_lease(request_: ReplayRequest) -> None:
    hold(request_)
    assert trouble(request_, HOST, datetime.now(UTC)) is None


def test_a_replay_that_hangs_is_not_well_once_its_lease_has_run_out(request_: ReplayRequest) -> None:
    hold(request_)
    later = datetime.now(UTC) + timedelta(seconds=SECONDS + 1)
    assert "ran out" in str(trouble(request_, HOST, later))


def test_a_replay_is_not_well_while_another_one_publishes(request_: ReplayRequest) -> None:
    hold(request_, host="elsewhere")
    assert "elsewhere:7" in str(trouble(request_, HOST, datetime.now(UTC)))


def test_a_replay_that_has_not_begun_or_has_ended_is_not_well(request_: ReplayRequest) -> None:
    assert "nobody" in str(trouble(request_, HOST, datetime.now(UTC)))
    hold(request_).release(Status.FAILED)
    assert "nobody" in str(trouble(request_, HOST, datetime.now(UTC)))


def test_a_shard_is_well_while_it_holds_its_own_lease(request_: ReplayRequest) -> None:
    shards = [request_.model_copy(update={"shard": Shard(index, 2)}) for index in range(2)]
    hold(shards[0])
    assert trouble(shards[0], HOST, datetime.now(UTC)) is None
    assert trouble(shards[1], HOST, datetime.now(UTC)) == "adhoc-1-of-2: nobody holds the lease"


def test_a_standby_is_well_while_anybody_holds_the_lease_and_it_has_not_run_out(request_: ReplayRequest) -> None:
    standby = request_.model_copy(update={"standby": True})
    assert "nobody" in str(trouble(standby, HOST, datetime.now(UTC)))
    hold(request_, host="elsewhere")
    assert trouble(standby, HOST, datetime.now(UTC)) is None
    assert "ran out" in str(trouble(standby, HOST, datetime.now(UTC) + timedelta(seconds=SECONDS + 1)))


def test_a_replay_without_a_store_leaves_no_trace_to_judge_by(request_: ReplayRequest) -> None:
    forgetful = request_.model_copy(update={"state": None})
    assert trouble(forgetful, HOST, datetime.now(UTC)) is None


@pytest.mark.parametrize("before", [[], ["/sbin/docker-init", "--"]], ids=["first", "behind an init"])
def test_the_check_reads_what_the_container_was_started_with(
    request_: ReplayRequest, tmp_path: Path, before: list[str]
) -> None:
    first = tmp_path / "cmdline"
    command = [*before, "python", "-m", "rejeu.replay", *request_.to_argv()]
    first.write_text("".join(f"{word}\0" for word in command))
    assert main(first) == 1
    hold(request_, socket.gethostname())
    assert main(first) == 0


def test_a_container_that_runs_no_replay_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cmdline").write_text("sleep\0infinity\0")
    assert main(tmp_path / "cmdline") == 1
    assert "'sleep infinity' is no replay" in capsys.readouterr().err
