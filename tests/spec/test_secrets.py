"""References to secrets, and what is refused that says one openly: in a spec, in a request, in no message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from rejeu.airflow.docs import page
from rejeu.errors import RequestError, SpecError
from rejeu.jobs.build import replay_request
from rejeu.jobs.request import ReplayRequest
from rejeu.spec.files import read_spec
from rejeu.spec.secrets import Reference, hidden, references
from rejeu.target import Target
from tests.paths import STREAMS

SECRET = "s3cr3t-0f-stations"
AT = "https://api.example.com/v1"
REQUEST = {"topic": "projects/p/topics/t", "event_time": "observed_at", "raw": "/raw/{partition}"}
OPEN_ADDRESSES = [
    f"https://rider:{SECRET}@api.example.com/v1",
    f"https://{SECRET}@api.example.com/v1",
    f"https://{SECRET}:@api.example.com/v1",
    f"{AT}?rows=5&apikey={SECRET}",
    f"{AT}?api_key={SECRET}",
    f"{AT}?API-Key={SECRET}&x=1",
    f"{AT}?a%70ikey={SECRET}",
    f"{AT}?key={SECRET}",
    f"{AT}?access_token={SECRET}#top",
    f"{AT}?X-Amz-Signature=1&X-Amz-Security-Token={SECRET}",
    f"{AT}#token={SECRET}",
    f"{AT}?a=1;password={SECRET}",
    f"rider:{SECRET}@api.example.com",
    f"ftp://rider:{SECRET}@api.example.com",
    f"https://rider:{SECRET}@[",
]
GOOD_ADDRESSES = [
    "{open_data}/api/records/1.0/search?dataset=vlille&rows=-1&sort=key",
    f"{AT}?apikey={{env:STATIONS_KEY}}",
    f"{AT}?apikey={{secret:projects/p/secrets/stations/versions/3}}&rows=1",
    "https://rider:{connection:stations}@api.example.com/v1/@home/a@b",
    "https://{secret:user}@api.example.com/{env:PATH_KEY}/feed?key=",
]
OPEN_HEADERS: list[Any] = [
    {"Authorization": f"Bearer {SECRET}"},
    {"X-Api-Key": SECRET},
    {"Ocp-Apim-Subscription-Key": SECRET},
    {"Cookie": f"session={SECRET}"},
    {"X-Api-Key": f"{{env:A B}}{SECRET}"},
    {"X-Api-Key": f"{SECRET}\n"},
    {"X-Api-Key": 5304707},
    {"X Api Key": f"{SECRET}{{env:A}}é"},
    f"X-Api-Key: {SECRET}",
    [SECRET],
]


def written(tmp_path: Path, **source: Any) -> Path:
    """A good spec of an API, with other fields of its source."""
    document = yaml.safe_load((STREAMS / "bike_stations.yaml").read_text(encoding="utf-8"))
    document["replay"]["source"] |= source
    file = tmp_path / "stations.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    return file


@pytest.mark.parametrize("address", OPEN_ADDRESSES)
def test_an_address_with_a_secret_in_it_is_refused_and_not_repeated(address: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as of_spec:
        read_spec(written(tmp_path, api=address))
    with pytest.raises(RequestError) as of_request:
        ReplayRequest.of(**REQUEST, api=address)
    for said in (str(of_spec.value), str(of_request.value)):
        assert SECRET not in said
        assert "*** is a secret, which anybody would see in arguments, logs and state; write {env:NAME}" in said


@pytest.mark.parametrize("address", GOOD_ADDRESSES)
def test_a_reference_may_stand_where_a_secret_would(address: str, tmp_path: Path) -> None:
    spec = read_spec(written(tmp_path, api=address))
    request = replay_request(spec, Target(project="rejeu-test", bucket="b", open_data="http://here"), None, None)
    assert request.api == address.replace("{open_data}", "http://here")
    assert ReplayRequest.from_argv(request.to_argv()) == request


@pytest.mark.parametrize("headers", OPEN_HEADERS)
def test_a_header_with_a_secret_in_it_is_refused_and_not_repeated(headers: Any, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"^replay\.source\.headers: it is no") as of_spec:
        read_spec(written(tmp_path, headers=headers))
    with pytest.raises(RequestError, match=r"^--headers: it is no") as of_request:
        ReplayRequest.of(**REQUEST, api=AT, headers=json.dumps(headers))
    for said in (str(of_spec.value), str(of_request.value)):
        assert SECRET not in said
        assert "5304707" not in said


def test_headers_travel_as_references_and_as_they_are(tmp_path: Path) -> None:
    headers = {"Accept": "application/json", "Authorization": "Bearer {secret:stations}"}
    spec = read_spec(written(tmp_path, headers=headers))
    request = replay_request(spec, Target(project="rejeu-test", bucket="b"), None, None)
    assert request.headers.root == headers
    assert ReplayRequest.from_argv(request.to_argv()) == request


def test_what_is_said_of_headers_and_options_without_their_source_repeats_none(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="--headers has X: only an API is asked with headers") as caught:
        ReplayRequest.of(**REQUEST, table="d.t", headers=json.dumps({"X": SECRET}))
    assert SECRET not in str(caught.value)
    with pytest.raises(SpecError, match="options has a: only a reader has options") as of_spec:
        read_spec(written(tmp_path, options={"a": SECRET}))
    assert SECRET not in str(of_spec.value)


@pytest.mark.parametrize(
    "options", [{"password": SECRET}, {"a": {"api_key": SECRET}}, {"a": [{"token": SECRET}]}, {"tokens": [SECRET]}]
)
def test_an_option_that_is_called_like_a_secret_is_a_reference(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"it is not to be read openly: .* holds a secret, which anybody") as caught:
        read_spec(written(tmp_path, options=options))
    with pytest.raises(RequestError, match=r"it is not to be read openly: .* holds a secret, which") as of_request:
        ReplayRequest.of(**REQUEST, reader="mine", options=json.dumps(options))
    assert SECRET not in f"{caught.value} {of_request.value}"


@pytest.mark.parametrize("name", ["{env:}", "{env:A-B}", "{secret:a/b}", "{connection:a b}", "{env:A"])
def test_a_reference_that_is_badly_made_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"a reference has one name of letters and digits; write \{env:NAME\}"):
        read_spec(written(tmp_path, api=f"{AT}?q={name}"))


def test_all_references_are_found_at_any_depth() -> None:
    value: Any = {"a": ["{env:A} {secret:b}", {"c": "{connection:d.e}"}], "f": 1, "g": "{bucket}"}
    assert [*references(value)] == [Reference("env", "A"), Reference("secret", "b"), Reference("connection", "d.e")]


def test_a_page_and_the_arguments_show_the_reference(tmp_path: Path) -> None:
    spec = read_spec(written(tmp_path, api=f"{AT}?apikey={{env:STATIONS_KEY}}"))
    assert "apikey={env:STATIONS_KEY}" in page(spec, "", "")
    argv = replay_request(spec, Target(project="rejeu-test", bucket="b"), None, None).to_argv()
    assert f"--api={AT}?apikey={{env:STATIONS_KEY}}" in argv


def test_hiding_leaves_everything_else_as_it_is() -> None:
    for address in (*GOOD_ADDRESSES, "not an address", "", "@", "?=&=", "https://:@host"):
        assert hidden(address) == address


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            {"api": f"{AT}?key={{env:A}}"},
            r"has \{env:A\}: .* no variable of this environment is; keep it in Secret Mana",
        ),
        (
            {"raw": "/raw/{partition}"},
            r"replay\.source\.raw is '/raw/\{partition\}': .* cannot see this machine's files",
        ),
    ],
)
def test_a_replay_elsewhere_has_no_variables_and_no_files_of_this_machine(
    source: dict[str, Any], message: str, tmp_path: Path
) -> None:
    spec = read_spec(written(tmp_path, **source))
    there = {"launcher": "cloud-run", "image": "i", "jobs_image": "j", "region": "europe-west1", "state": "gs://b/s"}
    with pytest.raises(RequestError, match=message):
        replay_request(spec, Target.model_validate({"project": "rejeu-test", "bucket": "b"} | there), None, None)
    assert replay_request(spec, Target(project="rejeu-test", bucket="b"), None, None).api
