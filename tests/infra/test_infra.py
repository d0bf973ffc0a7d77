"""infra/*.tf, parsed as Terraform would: what is named is declared, and the alert says what the patrol reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import hcl2
import pytest
from pydantic import AliasPath

from rejeu.gcp.alerts import Notification
from rejeu.gcp.topics import TAP_RETENTION
from rejeu.launchers import dataflow
from rejeu.spec.model import StreamSpec, Watchdog
from rejeu.target import Target
from tests.paths import ROOT

INFRA = ROOT / "infra"
FILES = sorted(INFRA.glob("*.tf"))
TEXT = "\n".join(file.read_text(encoding="utf-8") for file in FILES)
PLAIN = hcl2.SerializationOptions(
    with_comments=False, explicit_blocks=False, strip_string_quotes=True, preserve_heredocs=False
)
LENDS = "service_account_iam_member.airflow_lends"
NAMED = re.compile(r"\b(?:(var|local)\.(\w+)|(data\.)?(google_\w+)\.(\w+))")


def _blocks(kind: str) -> list[dict[str, Any]]:
    """Every block of this kind, in all files."""
    return [block for file in FILES for block in _parse(file).get(kind, [])]


def _parse(file: Path) -> dict[str, Any]:
    with file.open(encoding="utf-8") as text:
        return hcl2.load(text, serialization_options=PLAIN)


def _by_address(kind: str) -> dict[str, dict[str, Any]]:
    """Resources or data sources, by `type.name`."""
    return {
        f"{type_}.{name}": body
        for block in _blocks(kind)
        for type_, named in block.items()
        for name, body in named.items()
    }


RESOURCES = _by_address("resource")
DATA = _by_address("data")
VARIABLES = {name: body for block in _blocks("variable") for name, body in block.items()}
LOCALS = {name: value for block in _blocks("locals") for name, value in block.items()}
POLICY = RESOURCES["google_monitoring_alert_policy.absence"]
[CONDITION] = POLICY["conditions"]
[ABSENT] = CONDITION["condition_absent"]
[AGGREGATION] = ABSENT["aggregations"]


# Names


def test_whatever_is_named_is_declared() -> None:
    declared = {f"var.{name}" for name in VARIABLES} | {f"local.{name}" for name in LOCALS}
    declared |= set(RESOURCES) | {f"data.{address}" for address in DATA}
    named = {
        f"{kind}.{short}" if kind else f"{data or ''}{type_}.{name}"
        for kind, short, data, type_, name in NAMED.findall(TEXT)
    }
    assert len(named) > 10
    assert named - declared == set()


def test_every_variable_is_described_and_used() -> None:
    for name, body in VARIABLES.items():
        assert body["description"], name
        assert re.search(rf"\bvar\.{name}\b", TEXT), f"nothing uses {name}"


def test_the_readme_sets_the_variables_that_have_no_default() -> None:
    readme = (INFRA / "README.md").read_text(encoding="utf-8")
    needed = {name for name, body in VARIABLES.items() if "default" not in body}
    assert needed <= set(re.findall(r"^(\w+) += ", readme, re.MULTILINE)) <= set(VARIABLES)


# The alert


def test_the_alert_counts_what_the_probe_counts_by_default() -> None:
    assert VARIABLES["metric"]["default"] == Watchdog().metric
    assert 'metric.type = "${var.metric}"' in ABSENT["filter"]


def test_each_topic_has_an_alert_of_its_own() -> None:
    assert POLICY["for_each"] == "${toset(values(var.streams))}"
    assert 'resource.type = "pubsub_topic" AND resource.labels.topic_id = "${each.value}"' in ABSENT["filter"]


def test_the_alert_carries_the_label_that_the_patrol_reads() -> None:
    path = Notification.model_fields["topic"].validation_alias
    assert isinstance(path, AliasPath)
    *_, resource, _labels, label = path.path
    assert AGGREGATION["group_by_fields"] == [f"{resource}.label.{label}"]


def test_a_late_sample_is_not_taken_for_silence() -> None:
    sample, until_seen = 60, 120
    assert ABSENT["duration"] == "${var.absence_seconds}s"
    assert VARIABLES["absence_seconds"]["default"] >= sample + until_seen
    assert AGGREGATION["alignment_period"] == f"{sample}s"


def test_the_alert_says_what_reacts_and_what_to_do() -> None:
    [documentation] = POLICY["documentation"]
    for words in ("`rejeu.patrol`", "`<stream>.watchdog`", "**What to do**", "`rejeu incidents`"):
        assert words in documentation["content"]


# Its way to the patrol


def test_the_alert_goes_through_the_channel_to_the_subscription_that_airflow_is_told() -> None:
    assert "google_monitoring_notification_channel.patrol.id" in POLICY["notification_channels"]
    channel = RESOURCES["google_monitoring_notification_channel.patrol"]
    assert (channel["type"], channel["labels"]) == ("pubsub", {"topic": "${google_pubsub_topic.alerts.id}"})
    subscription = RESOURCES["google_pubsub_subscription.alerts"]
    assert subscription["topic"] == "${google_pubsub_topic.alerts.id}"
    [output] = [body for block in _blocks("output") for name, body in block.items() if name == "rejeu_alerts"]
    assert output["value"] == "${google_pubsub_subscription.alerts.name}"
    assert Target(project="my-project", alerts=subscription["name"]).subscription(subscription["name"])


def test_cloud_monitoring_may_publish_before_its_channel_is_made() -> None:
    binding = RESOURCES["google_pubsub_topic_iam_member.monitoring_publishes"]
    assert (binding["topic"], binding["role"]) == ("${google_pubsub_topic.alerts.id}", "roles/pubsub.publisher")
    agent = "gcp-sa-monitoring-notification.iam.gserviceaccount.com"
    assert binding["member"] == f"serviceAccount:service-${{data.google_project.this.number}}@{agent}"
    channel = RESOURCES["google_monitoring_notification_channel.patrol"]
    assert channel["depends_on"] == ["${google_pubsub_topic_iam_member.monitoring_publishes}"]


# What the watchdog may


@pytest.mark.parametrize(
    ("address", "role", "on"),
    [
        ("google_project_iam_member.watchdog_sees_metrics", "roles/monitoring.viewer", ("project", "${var.project}")),
        (
            "google_pubsub_subscription_iam_member.watchdog_hears_alerts",
            "roles/pubsub.subscriber",
            ("subscription", "${google_pubsub_subscription.alerts.id}"),
        ),
        (
            "google_pubsub_subscription_iam_member.watchdog_taps",
            "roles/pubsub.subscriber",
            ("subscription", "${each.value.id}"),
        ),
        (
            "google_bigquery_dataset_iam_member.watchdog_writes_incidents",
            "roles/bigquery.dataEditor",
            ("dataset_id", "${google_bigquery_dataset.rejeu.dataset_id}"),
        ),
        ("google_project_iam_member.watchdog_queries", "roles/bigquery.jobUser", ("project", "${var.project}")),
    ],
)
def test_the_watchdog_has_each_role_where_it_needs_it(address: str, role: str, on: tuple[str, str]) -> None:
    binding = RESOURCES[address]
    assert (binding["role"], binding["member"]) == (role, "${local.watchdog}")
    assert binding[on[0]] == on[1]


def test_incidents_lie_where_the_target_looks_for_them() -> None:
    fields = Target.model_fields
    assert VARIABLES["dataset"]["default"] == fields["dataset"].default
    assert VARIABLES["location"]["default"] == fields["location"].default


def test_a_tap_is_the_one_that_its_probe_reads() -> None:
    spec = StreamSpec.model_validate(
        {
            "stream": "crypto_rates",
            "event_time": "at",
            "live": {"topic": "bigquery-to-pubsub-test0", "table": "a.b"},
            "watchdog": {"probe": "tap"},
        }
    )
    tap = RESOURCES["google_pubsub_subscription.tap"]
    topic = "${var.streams[each.value]}"
    assert tap["name"] == f'{topic}-${{replace(each.value, "_", "-")}}-tap'
    assert spec.tap == f"{spec.live.topic}-{spec.stream.replace('_', '-')}-tap"
    assert tap["topic"] == f"projects/${{var.project}}/topics/{topic}"
    assert tap["message_retention_duration"] == f"{TAP_RETENTION.total_seconds():.0f}s"


# What streaming jobs on Dataflow may


def test_nothing_of_dataflow_is_made_where_no_job_runs_there() -> None:
    assert VARIABLES["jobs_service_account"]["default"] == ""
    conditional = [address for address in RESOURCES if ".jobs_" in address or ".airflow_" in address]
    assert len(conditional) == 5
    for address in conditional:
        assert re.search(r"local\.jobs|jobs_service_account", RESOURCES[address]["for_each"]), address


def test_jobs_have_the_roles_that_dataflow_asks_for_and_airflow_those_that_the_launcher_names() -> None:
    assert LOCALS["jobs_needs"] == ["roles/dataflow.worker", "roles/pubsub.editor", "roles/artifactregistry.reader"]
    granted = [RESOURCES[f"google_{each}"] for each in ("project_iam_member.airflow_launches", LENDS)]
    for binding in granted:
        assert binding["role"] in dataflow.ROLES
        assert binding["member"] == "${local.watchdog}"


def test_jobs_write_tables_and_stage_files_and_no_more() -> None:
    writes = RESOURCES["google_bigquery_dataset_iam_member.jobs_write"]
    stages = RESOURCES["google_storage_bucket_iam_member.jobs_stage"]
    assert (writes["role"], writes["dataset_id"]) == ("roles/bigquery.dataEditor", "${each.value}")
    assert (stages["role"], stages["bucket"]) == ("roles/storage.objectAdmin", "${var.jobs_bucket}")
