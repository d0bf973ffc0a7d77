"""Options become a simulator or a reader, or an error that says which there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from rejeu.errors import RequestError

Model = TypeVar("Model", bound=BaseModel)


def made_of(model: type[Model], options: Mapping[str, Any], named: str) -> Model:
    """The model with these options. Raises RequestError for an unknown one, a wrong value, or one that is missing."""
    try:
        return model.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        reason = f"{where}: {first['msg']}" if where else first["msg"]
    except RequestError as error:
        reason = str(error)
    raise RequestError(f"{named}: {reason}; options: {', '.join(model.model_fields) or 'none'}")
