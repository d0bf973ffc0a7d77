"""Arrow's values as texts for JSON, without their quotes, type by type; nesting and nulls are handled elsewhere.

For a null any text may come out. `rejeu.bigquery.types` says which type has which function.
"""

from __future__ import annotations

import binascii
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rejeu.replay.format.instants import DAY_US, WIDTH, YEAR_1_US, YEAR_10000_US, instant_digits
from rejeu.replay.format.pieces import BINARY, Choice, Piece, Values, binary, join, shown, spans

TEXT: Final = pa.large_string()
NOT_FINITE: Final = (b'"NaN"', b'"Infinity"', b'"-Infinity"')
FEW: Final = 16
"""Integers of a smaller range than this become choices, which merge with the text around them."""
CLOCK_AT: Final = 11
"""Where the time of day begins in an instant's text."""
DATE_END: Final = 10
ANY_DATE: Final = 10**7
"""More days than four-digit years have, and few enough to be counted in microseconds."""
UUID_DIGITS: Final = [at for at in range(36) if at not in (8, 13, 18, 23)]


def nulls(array: pa.NullArray) -> list[Piece]:
    return []


def booleans(array: pa.BooleanArray) -> list[Piece]:
    return [Choice((b"false", b"true"), _filled(array, False).to_numpy(zero_copy_only=False))]


def integers(array: pa.Array) -> list[Piece]:
    values = numbers(array)
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    if high - low < FEW:
        return [Choice(tuple(b"%d" % value for value in range(low, high + 1)), (values - low).astype(np.int32))]
    return [_printed(values)]


def floats(array: pa.Array) -> list[Piece]:
    """A float32 is written as a float64; NaN and the infinities are written as their names, in quotes."""
    values = numbers(array.cast(pa.float64()))
    finite = np.isfinite(values)
    if finite.all():
        return [_printed(values)]
    kind = np.select([np.isnan(values), values == np.inf], [0, 1], 2)
    return shown([_printed(values)], finite) + shown([Choice(NOT_FINITE, kind)], ~finite)


def decimals(array: pa.Array) -> list[Piece]:
    """The digits of the stored integer and a point: all decimals of the type, and never an exponent."""
    kind, precision = (pa.decimal256, 76) if pa.types.is_decimal256(array.type) else (pa.decimal128, 38)
    scale = max(array.type.scale, 0)
    stored = _filled(array.cast(kind(precision, scale)), 0)
    digits = pc.ascii_lpad(pc.abs(stored).view(kind(precision, 0)).cast(TEXT), scale + 1, "0")
    texts = pc.binary_replace_slice(digits, -scale, -scale, ".") if scale else digits
    return [Choice((b"", b"-"), pc.sign(stored).to_numpy() < 0), _whole(texts)]


def json(array: pa.LargeStringArray) -> list[Piece]:
    """The texts unchanged. Raises pa.ArrowInvalid for text that is not UTF-8."""
    return [_whole(_checked(array))]


def strings(array: pa.LargeStringArray) -> list[Piece]:
    """Escaped by orjson, unless no text of the array needs that. Raises as `json` does."""
    checked = _checked(array)
    plain = _whole(checked)
    data = _data(plain.texts)
    text = data.tobytes()
    if data.min(initial=ord(" ")) >= ord(" ") and b'"' not in text and b"\\" not in text:
        return [plain]
    # Indented, so that each text is on its own line: a line break in a text is escaped.
    lines = orjson.dumps(checked.to_pylist(), option=orjson.OPT_INDENT_2)
    breaks = np.flatnonzero(np.frombuffer(lines, np.uint8) == ord("\n"))
    ends = breaks[1:] - len('",')
    ends[-1] += len(",")
    return [spans(lines, breaks[:-1] + len('\n  "'), ends)]


def base64(array: pa.Array) -> list[Piece]:
    """All values in one call: each is padded with zeros to whole groups of three bytes, then its end is corrected."""
    values = _filled(array.cast(BINARY), b"")
    missing = -pc.binary_length(values).to_numpy() % 3
    padded = join([_whole(values), Choice((b"", b"\0", b"\0\0"), missing)], len(values))
    code = np.frombuffer(bytearray(binascii.b2a_base64(_data(padded).data, newline=False)), np.uint8)
    offsets = _offsets(padded) // 3 * 4
    code[offsets[1:][missing > 0] - 1] = ord("=")
    code[offsets[1:][missing > 1] - 2] = ord("=")
    return [_whole(binary(offsets, pa.py_buffer(code)))]


def uuids(array: pa.FixedSizeBinaryArray) -> list[Piece]:
    data = b"".join(_filled(array, bytes(16)).to_pylist())
    digits = np.full((len(array), 36), ord("-"), np.uint8)
    digits[:, UUID_DIGITS] = np.frombuffer(binascii.hexlify(data), np.uint8).reshape(-1, 32)
    return [_columns(digits, 0, 36)]


def dates(array: pa.Array) -> list[Piece]:
    days = numbers(array.cast(pa.date32()).cast(pa.int32())).clip(-ANY_DATE, ANY_DATE)
    return _calendar(array, days * np.int64(DAY_US), (YEAR_1_US, YEAR_10000_US), (0, DATE_END))


def times(array: pa.Array) -> list[Piece]:
    micros = array.cast(pa.time64("us"), safe=False)
    return _calendar(micros, numbers(micros.cast(pa.int64())), (0, DAY_US), (CLOCK_AT, WIDTH - 1))


def timestamps(array: pa.TimestampArray) -> list[Piece]:
    """`2021-05-01T00:00:00.000000Z`; a DATETIME has no zone. Nanoseconds are cut off, towards 1970."""
    micros = array.cast(pa.timestamp("us", array.type.tz), safe=False).cast(pa.timestamp("us"))
    end = WIDTH if array.type.tz else WIDTH - 1
    return _calendar(micros, numbers(micros.cast(pa.int64())), (YEAR_1_US, YEAR_10000_US), (0, end))


def intervals(array: pa.MonthDayNanoIntervalArray) -> list[Piece]:
    """One value at a time: such columns are rare."""
    return [_whole(pa.array([b"" if value is None else _interval(value) for value in array.to_pylist()], BINARY))]


def _interval(value: pa.MonthDayNano) -> bytes:
    """BigQuery's canonical `[-]Y-M [-]D [-]H:M:S[.F]`."""
    years, months = divmod(abs(value.months), 12)
    hours, rest = divmod(abs(value.nanoseconds) // 1_000, 3_600_000_000)
    minutes, micros = divmod(rest, 60_000_000)
    seconds = f"{micros // 1_000_000}" + (f".{micros % 1_000_000:06d}".rstrip("0") if micros % 1_000_000 else "")
    return (
        f"{'-' * (value.months < 0)}{years}-{months} {value.days} {'-' * (value.nanoseconds < 0)}"
        f"{hours}:{minutes}:{seconds}"
    ).encode()


def numbers(array: pa.Array) -> NDArray[Any]:
    """The array in numpy, 0 where it has a null."""
    return _filled(array, 0).to_numpy()  # type: ignore[no-any-return]


def _calendar(array: pa.Array, us: NDArray[np.int64], bounds: tuple[int, int], part: tuple[int, int]) -> list[Piece]:
    """A part of the instants' texts. Outside of the bounds, which BigQuery does not have, it is Arrow's own text."""
    values = _columns(instant_digits(us), *part)
    known = (us >= bounds[0]) & (us < bounds[1])
    if known.all():
        return [values]
    return shown([values], known) + shown([_whole(_filled(array.cast(TEXT), ""))], ~known)


def _columns(digits: NDArray[np.uint8], first: int, end: int) -> Values:
    rows = np.arange(len(digits)) * digits.shape[1]
    return spans(digits, rows + first, rows + end)


def _printed(values: NDArray[Any]) -> Values:
    data = orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)
    commas = np.flatnonzero(np.frombuffer(data, np.uint8) == ord(","))
    return spans(data, np.concatenate([[1], commas + 1]), np.concatenate([commas, [len(data) - 1]]))


def _whole(array: pa.Array) -> Values:
    return Values(array.view(BINARY), np.arange(len(array), dtype=np.int32))


def _filled(array: pa.Array, value: object) -> pa.Array:
    return array.fill_null(value) if array.null_count else array


def _checked(array: pa.LargeStringArray) -> pa.LargeStringArray:
    """The texts without nulls, checked to be UTF-8; texts of ASCII only need no check."""
    filled = _filled(array, "")
    if _data(filled).max(initial=0) > ord("\x7f"):
        filled.validate(full=True)
    return filled


def _offsets(array: pa.LargeBinaryArray) -> NDArray[np.int64]:
    return np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]


def _data(array: pa.LargeBinaryArray) -> NDArray[np.uint8]:
    """The bytes of all values, one after the other."""
    data = array.buffers()[2]
    if data is None:
        return np.empty(0, np.uint8)
    offsets = _offsets(array)
    return np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]
