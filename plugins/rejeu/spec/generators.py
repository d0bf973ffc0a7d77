"""Which simulators a spec may name, and where they are found; asking for a name imports none of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field

from rejeu.errors import ExtensionError
from rejeu.registry import Registry


@dataclass(frozen=True)
class GeneratorKind:
    """A simulator as specs name it: the value of GENERATOR in its module."""

    model: type[Any]
    """A class of `rejeu.replay.source.generators.base.Generator`: its fields are the options."""


GENERATORS: Final = Registry("generator", GeneratorKind, "rejeu.replay.source.generators")


def _known(text: str) -> str:
    try:
        GENERATORS.check(text.partition(":")[0], "it")
    except ExtensionError as error:
        raise ValueError(str(error)) from None
    return text


GeneratorText = Annotated[
    str, AfterValidator(_known), Field(json_schema_extra=lambda schema: schema.update(examples=list(GENERATORS)))
]
"""`name` or `name:option=value,...`; whether the options fit is known once the simulator is imported."""
