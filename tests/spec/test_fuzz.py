"""Specs that are mutated, by thousands: a spec or a SpecError, within a second and few megabytes. Seeded."""

from __future__ import annotations

import random
import re
import resource
import time
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from rejeu.errors import SpecError
from rejeu.spec.files import SUFFIXES, read_spec
from tests.paths import STREAMS

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("own_garbage")]

ROUNDS: Final = 1_000
SEEDS: Final = range(10)
MOST_SECONDS: Final = 1.0
MOST_KILOBYTES: Final = 200_000


def part_of(text: str, *more: str) -> str:
    """A spec with the fields that it must have, and these: the parser takes as long as a file has values."""
    kept = {"stream", "event_time", "live", "replay", *more}
    return "".join(each for each in re.split(r"^(?=\w)", text, flags=re.MULTILINE) if each.partition(":")[0] in kept)


WHOLE: Final = [file.read_text(encoding="utf-8") for file in sorted(STREAMS.iterdir()) if file.suffix in SUFFIXES]
GOOD: Final = [
    part_of(text, *more)
    for text in WHOLE
    for more in (["watchdog"], ["batch"], ["key", "cluster"], ["description", "owner", "tags"])
]
DOCUMENTS: Final = [yaml.safe_load(text) for text in GOOD]

VALUES: Final[list[Any]] = [
    None, True, 0, -1, 1, 1e308, 1e-300, float("nan"), float("inf"), 10**400, "", "max", "5s", "0s", "9" * 400 + "h",
    "0 1 * * *", "0 0 30 2 *", "*/0 * * * *", "a.b", "a.b.c.d", "{bucket}", "{", "{}", "{bucket!r}", "{partition:>99}",
    "{bucket.a}", "gs://b/{partition}", "http://[", "file:///x", "tap", "passthrough", "clicks:limit=x", "é\0\ud800",
    "x" * 5_000, [], [[]], {}, {"a": {"b": [1]}}, ["a"] * 500, "2021-05-01",
]  # fmt: skip
TEXTS: Final = [
    "!!bool ", "!!int ", "!!timestamp ", "!!binary ", "!!set ", "!!omap ", "&a ", "*a ", "<<: ", "? ", "- ", "[", "{",
    "]", "}", ":", "#", "|", ">", "'", '"', "\n", "\t", " ", "%YAML 9\n", "---\n", "...", "1:1:1", "0x", "\0", "é",
]  # fmt: skip


def mutated(rng: random.Random) -> str:
    """A good spec with a few values or a few characters changed."""
    # PyYAML is slow: most mutations are of the text.
    if rng.random() < 0.3:
        document = deepcopy(rng.choice(DOCUMENTS))
        for _ in range(rng.randint(1, 3)):
            _mutate(document, rng)
        return yaml.safe_dump(document, width=10**6)
    text = rng.choice(GOOD)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(text))
        text = text[:at] + rng.choice(TEXTS) * rng.choice([1, 1, 1, 30]) + text[at + rng.choice([0, 0, 1, 10]) :]
    return text


def _mutate(document: dict[Any, Any], rng: random.Random) -> None:
    part: Any = document
    while True:
        name = rng.choice([*map(str, part)]) if part else "x"
        if not isinstance(part.get(name), dict) or rng.random() < 0.2:
            break
        part = part[name]
    kind = rng.random()
    if kind < 0.7:
        part[name] = rng.choice(VALUES)
    elif kind < 0.85:
        part[rng.choice([name[:-1], name * 2, "x" * 300, 1, "source", "options", "workers"])] = part.pop(name, 1)
    else:
        part.pop(name, None)


def test_what_is_mutated_is_good_and_has_every_field_of_the_examples(tmp_path: Path) -> None:
    for number, text in enumerate(GOOD):
        file = tmp_path / f"{number}.yaml"
        file.write_text(text, encoding="utf-8")
        read_spec(file)
    assert {name for each in DOCUMENTS for name in each} == {name for text in WHOLE for name in yaml.safe_load(text)}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_mutated_spec_is_a_spec_or_a_spec_error_soon_and_in_few_words(seed: int, tmp_path: Path) -> None:
    rng, file = random.Random(seed), tmp_path / "fuzz.yaml"
    said: list[str] = []
    slowest, before = 0.0, _most_kilobytes()
    for _ in range(ROUNDS):
        file.write_bytes(mutated(rng).encode("utf-8", "surrogatepass"))
        begun = time.thread_time()
        try:
            read_spec(file)
        except SpecError as error:
            said.append(str(error))
        slowest = max(slowest, time.thread_time() - begun)
    assert ROUNDS / 2 < len(said) < ROUNDS
    assert max(map(len, said)) < 2_000
    assert slowest < MOST_SECONDS
    assert _most_kilobytes() - before < MOST_KILOBYTES


def _most_kilobytes() -> int:
    """The most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
