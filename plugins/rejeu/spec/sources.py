"""Which simulators and readers a spec may name, and where they are found; asking for a name imports none of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, JsonValue, RootModel

from rejeu.errors import ExtensionError
from rejeu.registry import Registry
from rejeu.spec.secrets import refuse_open_options
from rejeu.spec.shapes import from_json


@dataclass(frozen=True)
class GeneratorKind:
    """A simulator as specs name it: the value of GENERATOR in its module."""

    model: type[Any]
    """A class of `rejeu.replay.source.generators.base.Generator`: its fields are the options."""


@dataclass(frozen=True)
class SourceKind:
    """A source as specs name it, `reader: NAME`: the value of SOURCE in its module."""

    model: type[Any]
    """A class of `rejeu.replay.source.reader.Reader`: its fields are the options."""


GENERATORS: Final = Registry("generator", GeneratorKind, "rejeu.replay.source.generators")
SOURCES: Final = Registry("source", SourceKind, "rejeu.replay.source")


class Options(RootModel[Annotated[dict[str, JsonValue], AfterValidator(refuse_open_options)]]):
    """What a spec gives a reader; as a flag it is JSON."""

    model_config = ConfigDict(frozen=True)

    @classmethod
    def read(cls, value: object) -> object:
        """From the text that `str` gives. Raises ValueError."""
        return from_json(value, '{"folder": "/data"}')

    def __str__(self) -> str:
        return self.model_dump_json()


def _known(registry: Registry[Any]) -> Callable[[str], str]:
    def check(text: str) -> str:
        try:
            registry.check(text.partition(":")[0], "it")
        except ExtensionError as error:
            raise ValueError(str(error)) from None
        return text

    return check


GeneratorText = Annotated[
    str,
    AfterValidator(_known(GENERATORS)),
    Field(json_schema_extra=lambda schema: schema.update(examples=list(GENERATORS))),
]
"""`name` or `name:option=value,...`; whether the options fit is known once the simulator is imported."""
ReaderName = Annotated[str, AfterValidator(_known(SOURCES))]
ReaderOptions = Annotated[Options, BeforeValidator(Options.read)]
