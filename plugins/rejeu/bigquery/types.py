"""What Rejeu knows of BigQuery's column types: one record each, and no second table anywhere.

Whoever compiles a schema looks here: the encoder, the table maker, the validator, Dataflow's sink, the generators,
Spark, the replay's SQL and `rejeu new`. Nobody looks per row. Arrow is imported by those alone who ask about it.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any, Final

from rejeu.timeline import format_instant, from_us, parse_instant, to_us

if TYPE_CHECKING:
    import pyarrow as pa

RECORDS: Final = ("RECORD", "STRUCT")
"""The names of what has fields of its own; every other type is a record of `TYPES`."""
BEYOND_MICROSECONDS: Final = r"(\.\d{6})\d+"
TEXT_WITH_ZONE: Final = r"(Z|UTC|[+-]\d\d:\d\d)$"
EXACT: Final = Context(prec=100)
"""More digits than any BIGNUMERIC has: the default context would round at 28."""
ALMOST_A_DAY: Final = timedelta(days=1, microseconds=-1)


@dataclass(frozen=True)
class TimeSql:
    """How BigQuery's SQL reads a column of the type as an event time."""

    rank: int
    """How telling the type is among the columns of a table: 0 is the most telling."""
    bound: Callable[[int, int], str]
    """The literal of the first value that is not before an instant: given its microseconds and those of the unit."""
    micros: Callable[[str, int], str] = lambda expression, unit_us: f"UNIX_MICROS({expression})"
    """The event time as microseconds since the epoch."""
    expression: Callable[[str], str] = lambda column: column
    """What a bound is compared with: the bare column wherever it can be, so that partitions are pruned."""
    needs_unit: bool = False
    whole_days: bool = False
    """It says no more than the day."""


@dataclass(frozen=True)
class ColumnType:
    """One type of BigQuery: its name as Rejeu writes it, and the other spellings that BigQuery's API has."""

    name: str
    check: Callable[[Any], bool]
    """Whether a value of JSON fits; it may also raise ValueError, TypeError or ArithmeticError to say no."""
    rule: str
    """What a value must be, in the words that follow "must be"."""
    json: str
    """The function of `rejeu.replay.format.json_text` that writes an Arrow array of it as JSON."""
    aliases: tuple[str, ...] = ()
    quotes: str = '""'
    """What stands around the JSON text of a value."""
    is_arrow: Callable[[pa.DataType], bool] | None = None
    """Which Arrow types are this one; none where the values come as text. The first record that says yes counts."""
    arrow: Callable[[], pa.DataType] | None = None
    """As which Arrow type a generator makes it; none where no generator can."""
    extensions: tuple[bytes, ...] = ()
    """The names of Arrow's extensions that mark text as this type; BigQuery's own comes first."""
    append_as: type | None = str
    """As which of bool, bytes, float, int and str Beam hands it to the Storage Write API; none where it cannot
    (https://cloud.google.com/bigquery/docs/supported-data-types#supported_protocol_buffer_data_types)."""
    append: Callable[[Any], Any] = str
    """Makes that of a valid value of JSON."""
    python: type | None = None
    """As which type a record of Rejeu's own tables (`records`) has it; none where none does."""
    spark: str | None = None
    """The type that Spark casts the text of a value to; none where no cast gives the same value."""
    time: TimeSql | None = None
    """Set where an event time may have the type."""
    is_day: bool = False
    """Whether a table may be partitioned by the days of such a column."""
    is_name: bool = False
    """Whether values of it may name a row, alone or together with others."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every spelling."""
        return (self.name, *self.aliases)


def find(name: str) -> ColumnType | None:
    """The type of this name, in any of its spellings; None for a record and for a type that Rejeu does not know."""
    return next((each for each in TYPES if name in each.names), None)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_base64(value: Any) -> bool:
    return isinstance(value, str) and base64.b64decode(value, validate=True) is not None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, str)) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return _is_number(value) and not isinstance(value, float) and -(2**63) <= int(value) < 2**63


def _is_float(value: Any) -> bool:
    # JSON has no NaN and no Infinity: BigQuery takes them as text.
    return _is_number(value) and (isinstance(value, str) or math.isfinite(value)) and float(value) is not None


def _is_decimal(whole_digits: int, scale: int) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        if not _is_number(value):
            return False
        number = Decimal(str(value)).normalize(EXACT)
        exponent = number.as_tuple().exponent
        return isinstance(exponent, int) and -exponent <= scale and number.adjusted() < whole_digits

    return check


def _is_boolean(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, str) and value.lower() in ("true", "false"))


def _is_timestamp(value: Any) -> bool:
    return datetime.fromisoformat(value.replace(" UTC", "Z")).tzinfo is not None if _is_text(value) else False


def _is_datetime(value: Any) -> bool:
    return datetime.fromisoformat(value).tzinfo is None


def _is_date(value: Any) -> bool:
    return date.fromisoformat(value) is not None


def _is_time(value: Any) -> bool:
    return time.fromisoformat(value).tzinfo is None


def _boolean(value: bool | str) -> bool:
    return value is True or str(value).lower() == "true"


def _micros(value: str) -> int:
    return to_us(parse_instant(value.replace(" UTC", "Z")))


def _arrow_is(*tests: str) -> Callable[[pa.DataType], bool]:
    """Whether one of these functions of `pyarrow.types` says yes."""

    def test(kind: pa.DataType) -> bool:
        import pyarrow.types

        return any(getattr(pyarrow.types, each)(kind) for each in tests)

    return test


def _is_arrow_numeric(kind: pa.DataType) -> bool:
    return _is_arrow_decimal(kind) and kind.scale <= 9 and kind.precision - kind.scale <= 29


def _is_arrow_instant(kind: pa.DataType) -> bool:
    return _is_arrow_timestamp(kind) and kind.tz is not None


_is_arrow_decimal = _arrow_is("is_decimal")
_is_arrow_timestamp = _arrow_is("is_timestamp")


def _arrow(name: str, *arguments: Any) -> Callable[[], pa.DataType]:
    """What this function of `pyarrow` makes of the arguments."""

    def make() -> pa.DataType:
        import pyarrow as pa

        return getattr(pa, name)(*arguments)

    return make


def _timestamp(us: int, unit_us: int) -> str:
    return f"TIMESTAMP '{format_instant(from_us(us))}'"


def _text_as_timestamp(column: str) -> str:
    micros = f"REGEXP_REPLACE({column}, r'{BEYOND_MICROSECONDS}', r'\\1')"
    return f"IF(REGEXP_CONTAINS({column}, r'{TEXT_WITH_ZONE}'), SAFE.TIMESTAMP({micros}), NULL)"


def _micros_of_local(expression: str, unit_us: int) -> str:
    """A time without a zone is UTC."""
    return f"UNIX_MICROS(TIMESTAMP({expression}))"


STRING: Final = ColumnType(
    name="STRING",
    check=_is_text,
    rule="text",
    json="strings",
    python=str,
    is_arrow=_arrow_is("is_string", "is_large_string", "is_string_view"),
    arrow=_arrow("string"),
    spark="string",
    time=TimeSql(rank=3, bound=_timestamp, expression=_text_as_timestamp),
    is_name=True,
)
JSON: Final = ColumnType(
    name="JSON",
    check=_is_text,
    rule="JSON as text",
    json="json",
    quotes="",
    extensions=(b"google:sqlType:json", b"arrow.json"),
)
TYPES: tuple[ColumnType, ...] = (
    ColumnType(
        name="BOOL",
        aliases=("BOOLEAN",),
        check=_is_boolean,
        rule="true or false",
        json="booleans",
        quotes="",
        is_arrow=_arrow_is("is_boolean"),
        arrow=_arrow("bool_"),
        append_as=bool,
        append=_boolean,
        spark="boolean",
    ),
    ColumnType(
        name="INT64",
        aliases=("INTEGER",),
        check=_is_integer,
        rule="a whole number of 64 bits, or its digits as text",
        json="integers",
        python=int,
        quotes="",
        is_arrow=_arrow_is("is_integer"),
        arrow=_arrow("int64"),
        append_as=int,
        append=int,
        spark="bigint",
        time=TimeSql(
            rank=2,
            bound=lambda us, unit_us: str(-(-us // unit_us)),
            micros=lambda expression, unit_us: f"{expression} * {unit_us}",
            needs_unit=True,
        ),
        is_name=True,
    ),
    ColumnType(
        name="FLOAT64",
        aliases=("FLOAT",),
        check=_is_float,
        rule="a number, or its digits as text",
        json="floats",
        python=float,
        quotes="",
        is_arrow=_arrow_is("is_floating"),
        arrow=_arrow("float64"),
        append_as=float,
        append=float,
        spark="double",
    ),
    ColumnType(
        name="NUMERIC",
        check=_is_decimal(29, 9),
        rule="a number of 29 digits before the point and 9 behind it, at most",
        json="decimals",
        is_arrow=_is_arrow_numeric,
        arrow=_arrow("decimal128", 38, 9),
        spark="decimal(38,9)",
    ),
    ColumnType(
        name="BIGNUMERIC",
        check=_is_decimal(38, 38),
        rule="a number of 38 digits before the point and 38 behind it, at most",
        json="decimals",
        is_arrow=_is_arrow_decimal,
        arrow=_arrow("decimal256", 76, 38),
    ),
    ColumnType(
        name="TIMESTAMP",
        python=datetime,
        check=_is_timestamp,
        rule="an ISO 8601 time with a zone, such as 2021-05-01T00:00:00Z",
        json="timestamps",
        is_arrow=_is_arrow_instant,
        arrow=_arrow("timestamp", "us", "UTC"),
        append_as=int,
        append=_micros,
        spark="timestamp",
        time=TimeSql(rank=0, bound=_timestamp),
        is_day=True,
    ),
    ColumnType(
        name="DATETIME",
        check=_is_datetime,
        rule="an ISO 8601 time without a zone, such as 2021-05-01T00:00:00",
        json="timestamps",
        is_arrow=_is_arrow_timestamp,
        arrow=_arrow("timestamp", "us"),
        time=TimeSql(
            rank=1,
            bound=lambda us, unit_us: f"DATETIME '{format_instant(from_us(us)).removesuffix('Z')}'",
            micros=_micros_of_local,
        ),
        is_day=True,
    ),
    ColumnType(
        name="DATE",
        check=_is_date,
        rule="a date, such as 2021-05-01",
        json="dates",
        is_arrow=_arrow_is("is_date"),
        arrow=_arrow("date32"),
        spark="date",
        time=TimeSql(
            rank=4,
            bound=lambda us, unit_us: f"DATE '{(from_us(us) + ALMOST_A_DAY).date().isoformat()}'",
            micros=_micros_of_local,
            whole_days=True,
        ),
        is_day=True,
    ),
    ColumnType(
        name="TIME",
        check=_is_time,
        rule="a time of day, such as 09:30:00",
        json="times",
        is_arrow=_arrow_is("is_time"),
        arrow=_arrow("time64", "us"),
    ),
    ColumnType(
        name="BYTES",
        check=_is_base64,
        rule="base64 text",
        json="base64",
        is_arrow=_arrow_is("is_binary", "is_large_binary", "is_fixed_size_binary"),
        arrow=_arrow("binary"),
        append_as=bytes,
        append=base64.b64decode,
    ),
    STRING,
    JSON,
    ColumnType(name="GEOGRAPHY", check=_is_text, rule="text", json="strings"),
    ColumnType(
        name="INTERVAL",
        check=_is_text,
        rule="text",
        json="intervals",
        is_arrow=_arrow_is("is_interval"),
        arrow=_arrow("month_day_nano_interval"),
    ),
)
"""All of them; where two know an Arrow type, the narrower one comes first."""
