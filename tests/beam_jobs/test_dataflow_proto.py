"""The job that Dataflow is given, as a dry run describes it: what it reads, its windows, its sinks and its workers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2, standard_window_fns_pb2
from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner
from apache_beam.runners.dataflow.internal import apiclient
from apache_beam.utils import proto_utils

from beam_jobs import stream, template
from rejeu.jobs.request import StreamJobRequest
from rejeu.message import EVENT_TIME, ROW_ID
from rejeu.spec.columns import ROW_ID_COLUMN
from rejeu.spec.pipelines import PIPELINES
from tests.fakes import expansion_service as fake

IMAGE = "europe-docker.pkg.dev/rejeu-test/rejeu/beam:1"
REQUEST = StreamJobRequest(
    stream="sensors",
    pipeline="sensor_means",
    subscription="projects/rejeu-test/subscriptions/sensors",
    table="rejeu-test.live.means",
    dead_letters="rejeu-test.live.dead_letters",
    event_time="Timestamp",
    window_seconds=15.0,
)
COLUMNS = (*(PIPELINES["sensor_means"].columns or ()), ROW_ID_COLUMN)
OPTIONS = [
    "--runner=DataflowRunner",
    "--project=rejeu-test",
    "--region=europe-west1",
    "--job_name=rejeu-stream-sensors",
    "--temp_location=gs://rejeu-bucket/temp",
    "--staging_location=gs://rejeu-bucket/staging",
    f"--sdk_container_image={IMAGE}",
    "--enable_streaming_engine",
    "--max_num_workers=3",
    "--worker_machine_type=n2-standard-2",
    "--labels=team=data",
    "--service_account_email=job@rejeu-test.iam.gserviceaccount.com",
    "--experiments=streaming_mode_at_least_once",
]
"""As Dataflow passes them to a flex template, of what the launcher has told it."""
OFFLINE = ["--dry_run=True", "--no_auth", "--sdk_location=container"]

pytestmark = pytest.mark.emulated


@pytest.fixture(scope="module")
def job() -> Iterator[Any]:
    """The job of a windowed pipeline, by way of the template's program."""
    submitted: list[Any] = []
    fake.CONFIGURED.clear()
    with pytest.MonkeyPatch.context() as patch, fake.expansion_service() as address:
        patch.setattr(stream, "columns_of", lambda table: COLUMNS)
        patch.setattr(DataflowRunner, "run_pipeline", _kept(DataflowRunner.run_pipeline, submitted))
        parameters = [f"--{name}={value}" for name, value in REQUEST.model_dump(exclude_defaults=True).items()]
        services = f"--beam_services={json.dumps({fake.GRADLE_TARGET: address})}"
        stream.run(template.split_flags([*parameters, *OPTIONS, *OFFLINE, services]))
        yield submitted[0].job


def _kept(run_pipeline: Callable[..., Any], submitted: list[Any]) -> Callable[..., Any]:
    """The runner's own method, whose result is kept: the program ends as soon as it has submitted."""

    def run(*arguments: Any, **options: Any) -> Any:
        submitted.append(run_pipeline(*arguments, **options))
        return submitted[-1]

    return run


def transforms(job: Any, urn: str) -> list[Any]:
    return [each for each in job.proto_pipeline.components.transforms.values() if each.spec.urn == urn]


def test_messages_are_read_once_by_their_row_id_at_their_event_time(job: Any) -> None:
    (read,) = transforms(job, common_urns.composites.PUBSUB_READ.urn)
    payload = proto_utils.parse_Bytes(read.spec.payload, beam_runner_api_pb2.PubSubReadPayload)
    assert payload.subscription == REQUEST.subscription
    assert (payload.id_attribute, payload.timestamp_attribute) == (ROW_ID, EVENT_TIME)
    assert payload.with_attributes


def test_rows_are_grouped_in_the_windows_of_the_request_and_leave_them_before_they_are_written(job: Any) -> None:
    components = job.proto_pipeline.components
    (group,) = (each for each in components.transforms.values() if each.unique_name == "sensor_means/group")
    (grouped,) = group.inputs.values()
    strategy = components.windowing_strategies[components.pcollections[grouped].windowing_strategy_id]
    window = proto_utils.parse_Bytes(strategy.window_fn.payload, standard_window_fns_pb2.FixedWindowsPayload)
    assert window.size.ToSeconds() == REQUEST.window_seconds
    assert strategy.accumulation_mode == beam_runner_api_pb2.AccumulationMode.ACCUMULATING
    (hand_over,) = (each for each in components.transforms.values() if each.unique_name == "insert/hand over")
    (handed_over,) = hand_over.inputs.values()
    outside = components.windowing_strategies[components.pcollections[handed_over].windowing_strategy_id]
    assert outside.window_fn.urn == common_urns.global_windows.urn


def test_rows_and_dead_letters_go_through_the_storage_write_api(job: Any) -> None:
    tables = [asked["table"] for asked in fake.CONFIGURED]
    assert tables == ["rejeu-test:live.means", "rejeu-test:live.dead_letters"]
    assert all(asked["use_at_least_once_semantics"] for asked in fake.CONFIGURED)


def test_every_step_of_ours_runs_in_our_image(job: Any) -> None:
    components = job.proto_pipeline.components
    ours = {
        each.environment_id
        for each in components.transforms.values()
        if each.environment_id and "bigquery_storage_write" not in each.unique_name
    }
    (environment,) = (components.environments[each] for each in ours)
    docker = proto_utils.parse_Bytes(environment.payload, beam_runner_api_pb2.DockerPayload)
    assert (environment.urn, docker.container_image) == (common_urns.environments.DOCKER.urn, IMAGE)


def test_the_job_has_the_workers_of_the_spec(job: Any) -> None:
    environment = apiclient.Environment([], job.options, "8", "gs://rejeu-bucket/proto", proto_pipeline=None).proto
    (pool,) = environment.worker_pools
    assert (pool.machine_type, pool.autoscaling_settings.max_num_workers) == ("n2-standard-2", 3)
    assert environment.service_account_email == "job@rejeu-test.iam.gserviceaccount.com"
    assert {"streaming_mode_at_least_once", "enable_streaming_engine"} <= set(environment.experiments)
    assert (job.proto.name, dict(job.proto.labels)) == ("rejeu-stream-sensors", {"team": "data"})
    assert job.proto.type_.name == "JOB_TYPE_STREAMING"


def test_no_parameter_of_the_template_has_the_name_of_an_option_of_beams() -> None:
    assert set(StreamJobRequest.model_fields) & set(PipelineOptions().get_all_options()) == set()


def test_parameters_and_beams_options_are_told_apart_by_their_names() -> None:
    given = ["--streaming", "--dead_letters=a.b.c=d", "--stream=s", "--labels=stream=x"]
    assert template.split_flags(given) == [
        "--dead-letters=a.b.c=d",
        "--stream=s",
        "--",
        "--streaming",
        "--labels=stream=x",
    ]
