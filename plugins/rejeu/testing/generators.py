"""The rules that every simulator keeps, as a class of tests for a simulator's author.

class TestMine(GeneratorContract):
    generator = "mine:seed=1"
    event_time = "at"
    until = "2026-01-01T01:00:00Z"
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pytest

from rejeu.errors import RequestError
from rejeu.testing.sources import Fields, SourceContract


class GeneratorContract(SourceContract):
    """Subclass it, and give its attributes: they are those of a spec's `replay.source`, and name ten rows or more."""

    generator: ClassVar[str]
    """`name` or `name:option=value,...`."""
    event_time: ClassVar[str]
    time_unit: ClassVar[str | None] = None
    key: ClassVar[Sequence[str]] = ()
    until: ClassVar[str | None] = None
    """Where to stop; needed where it goes on for ever."""

    @pytest.fixture
    def source(self) -> Fields:
        fields = {name: getattr(self, name) for name in ("generator", "event_time", "time_unit", "key", "until")}
        return {name: value for name, value in fields.items() if value}

    def test_its_tables_have_the_columns_that_it_says(self) -> None:
        from rejeu.replay.source.generated import open_generator
        from rejeu.replay.source.generators.base import arrow_schema

        made = open_generator(self.generator)
        assert next(made.tables()).schema.equals(arrow_schema(made.columns))

    def test_an_option_that_it_has_not_is_refused(self) -> None:
        from rejeu.replay.source.generated import open_generator

        name, _, options = self.generator.partition(":")
        with pytest.raises(RequestError, match="no_such_option"):
            open_generator(f"{name}:{options},no_such_option=1")
