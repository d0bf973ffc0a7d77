"""Arguments are checked before anything is submitted, and errors end a program with their own code."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from beam_jobs.program import check_column, is_direct, main, read_arguments, transform_of
from rejeu.errors import RequestError, SourceError
from rejeu.jobs.request import BatchJobRequest, PipelineRequest
from rejeu.spec.columns import Column
from rejeu.spec.pipelines import PIPELINES

ARGV = ["--stream=crypto_rates", "--pipeline=rates", "--files=raw/*", "--output=out", "--event-time=timestamp"]


def test_our_flags_come_first_and_beams_options_behind_two_dashes() -> None:
    request, options = read_arguments(
        BatchJobRequest, [*ARGV, "--partition=2021-04-30", "--", "--runner=DataflowRunner"]
    )
    assert request.partition == "2021-04-30"
    assert not is_direct(options)


def test_without_beams_options_the_pipeline_runs_in_this_process() -> None:
    _, options = read_arguments(BatchJobRequest, [*ARGV, "--partition=2021-04-30"])
    assert is_direct(options)


def test_an_option_that_beam_does_not_have_is_refused() -> None:
    with pytest.raises(RequestError, match="no option --runer"):
        read_arguments(BatchJobRequest, [*ARGV, "--partition=2021-04-30", "--", "--runer=DirectRunner"])


@pytest.mark.parametrize("name", PIPELINES)
def test_every_pipeline_that_is_named_has_its_transform(name: str) -> None:
    assert transform_of(PipelineRequest(stream="crypto_rates", pipeline=name)).expand


def test_an_unknown_pipeline_is_refused_with_those_that_exist() -> None:
    with pytest.raises(RequestError, match="--pipeline is 'rtes': it must be one of clicks, occupancy, passthrough"):
        transform_of(PipelineRequest(stream="crypto_rates", pipeline="rtes"))


def test_a_column_that_the_table_lacks_is_refused_with_those_it_has() -> None:
    check_column("--event-time", "Timestamp", [Column("timestamp", "TIMESTAMP")])
    with pytest.raises(RequestError, match=r"--event-time is 'time': .* it has timestamp, rate"):
        check_column("--event-time", "time", [Column("timestamp", "TIMESTAMP"), Column("rate", "FLOAT64")])


@pytest.mark.parametrize(("error", "code"), [(RequestError("no"), 2), (SourceError("no"), 3)])
def test_an_error_of_ours_ends_the_program_with_its_code_and_one_line(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(argv: Sequence[str]) -> None:
        raise error

    assert main(run) == code
    assert capsys.readouterr().err == "rejeu: no\n"
