"""A first pipeline of somebody's own, with a test that passes as it is written: `rejeu new --pipeline-template`."""

from __future__ import annotations

import keyword
import re
from importlib.util import find_spec
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory
from typing import Final

from rejeu import extensions
from rejeu.errors import RequestError
from rejeu.spec.pipelines import PIPELINES

NAME: Final = r"[a-z][a-z0-9_]{2,39}"

RECORD: Final = '''"""The pipeline `$name`: the value of each reading, rounded. Its rows are made in `transform`."""

from __future__ import annotations

from rejeu.spec.columns import Column
from rejeu.spec.pipelines import Pipeline

PIPELINE = Pipeline(
    module=f"{__name__}.transform",
    columns=(Column("happened_at", "TIMESTAMP"), Column("id", "STRING"), Column("value", "FLOAT64")),
)
'''

TRANSFORM: Final = '''"""How the pipeline `$name` makes rows of messages."""

from __future__ import annotations

import apache_beam as beam
import msgspec

from beam_jobs.transforms.decode import Decode, Decoder
from rejeu.jobs.request import PipelineRequest


class Reading(msgspec.Struct):
    """What a message must hold; more than that is ignored."""

    happened_at: str
    id: str
    value: float


def transform(request: PipelineRequest) -> beam.PTransform:
    """Messages to (rows, dead letters)."""
    return Decode(request.stream, make_decoder)


def make_decoder() -> Decoder:
    """A decoder of one message's body. What raises ValueError becomes a dead letter, with the error as its reason."""
    reading = msgspec.json.Decoder(Reading)

    def decode(body: bytes) -> list[dict[str, object]]:
        found = reading.decode(body)
        return [{"happened_at": found.happened_at, "id": found.id, "value": round(found.value, 2)}]

    return decode
'''

TEST: Final = '''"""The pipeline `$name` keeps the rules of every pipeline, and makes the rows that are wanted."""

from __future__ import annotations

from pathlib import Path

from rejeu import extensions
from rejeu.testing.pipelines import PipelineContract

extensions.look_in(Path(__file__).parents[1])

READING = b'{"happened_at": "2026-11-20T12:00:00Z", "id": "a", "value": 1.234}'


class Test$title(PipelineContract):
    name = "$name"
    messages = (READING,)
    wrong = (b"{}", b"no JSON")


def test_a_value_is_rounded() -> None:
    from rejeu.extensions.$name.transform import make_decoder

    assert make_decoder()(READING) == [{"happened_at": "2026-11-20T12:00:00Z", "id": "a", "value": 1.23}]
'''


def check_name(folder: Path, name: str) -> None:
    """Raises RequestError for a name that no new pipeline beside the specs of `folder` can have."""
    if re.fullmatch(NAME, name) is None or keyword.iskeyword(name):
        rule = "it must be 3 to 40 small letters, digits and underscores, a letter first, and no word of Python's"
        raise RequestError(f"NAME is {name!r}: {rule}, such as prices")
    for path in (folder / name, folder / f"{name}.py"):
        if path.exists():
            raise RequestError(f"{path} is there already: remove it, or name the pipeline otherwise")
    extensions.look_in(folder)
    if name in PIPELINES:
        raise RequestError(f"NAME is {name!r}: there is a pipeline of that name; name yours otherwise")
    if find_spec(name) is not None:
        raise RequestError(
            f"NAME is {name!r}: a module of Python has that name, and pytest would mix them up; take another"
        )


def pipeline_files(name: str) -> dict[str, str]:
    """The text of each file of the pipeline's folder."""
    title = "".join(part.capitalize() for part in name.split("_"))
    texts = {"__init__.py": RECORD, "transform.py": TRANSFORM, f"test_{name}.py": TEST}
    return {file: Template(text).substitute(name=name, title=title) for file, text in texts.items()}


def write_pipeline(folder: Path, name: str) -> Path:
    """Write the pipeline's folder, whole or not at all. Raises RequestError where it cannot have that name."""
    check_name(folder, name)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".new-", dir=folder) as place:
        draft = Path(place) / name
        draft.mkdir()
        for file, text in pipeline_files(name).items():
            (draft / file).write_text(text, encoding="utf-8")
        return draft.rename(folder / name)
