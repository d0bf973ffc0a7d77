"""Band oracle requests as blockchain-etl/band-etl exports them, made up: nested rows, several in one microsecond."""

from __future__ import annotations

import base64
import json
import math
import random
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import pyarrow as pa

from rejeu.jobs.request import Instant
from rejeu.replay.source.generators.base import TABLE_ROWS, Generator, Positive, Row, arrow_schema
from rejeu.spec.columns import Column
from rejeu.spec.sources import GeneratorKind

_PACKET = (Column("oracle_script_id", "INT64"), Column("calldata", "STRING"))

COLUMNS: Final = (
    Column("block_height", "INT64"),
    Column("block_timestamp", "STRING"),
    Column("block_timestamp_truncated", "TIMESTAMP"),
    Column("oracle_request_id", "INT64"),
    Column(
        "request",
        "RECORD",
        fields=(
            *_PACKET,
            Column("requested_validators", "STRING", "REPEATED"),
            Column("min_count", "INT64"),
            Column("request_height", "INT64"),
            Column("request_time", "TIMESTAMP"),
            Column(
                "raw_requests",
                "RECORD",
                "REPEATED",
                fields=(
                    Column("external_id", "INT64"),
                    Column("data_source_id", "INT64"),
                    Column("calldata", "STRING"),
                ),
            ),
        ),
    ),
    Column(
        "reports",
        "RECORD",
        "REPEATED",
        fields=(
            Column(
                "raw_reports",
                "RECORD",
                "REPEATED",
                fields=(Column("exit_code", "INT64"), Column("data", "BYTES"), Column("external_id", "INT64")),
            ),
            Column("in_before_resolve", "BOOL"),
            Column("validator", "STRING"),
        ),
    ),
    Column(
        "result",
        "RECORD",
        fields=(
            Column(
                "request_packet_data",
                "RECORD",
                fields=(*_PACKET, Column("ask_count", "INT64"), Column("min_count", "INT64")),
            ),
            Column(
                "response_packet_data",
                "RECORD",
                fields=(
                    Column("request_id", "INT64"),
                    Column("ans_count", "INT64"),
                    Column("request_time", "INT64"),
                    Column("resolve_time", "INT64"),
                    Column("resolve_status", "INT64"),
                    Column("result", "STRING"),
                ),
            ),
        ),
    ),
    Column("decoded_result", "RECORD", fields=(Column("calldata", "STRING"), Column("result", "STRING"))),
    Column(
        "oracle_script",
        "RECORD",
        fields=tuple(
            Column(name, "STRING") for name in ("owner", "name", "description", "filename", "schema", "source_code_url")
        ),
    ),
)
"""The schema of `crypto_band.oracle_requests`."""

SCHEMA: Final = arrow_schema(COLUMNS)

PRICES: Final = {
    "BTC": 57_234.12, "ETH": 2_790.4, "BAND": 17.31, "BNB": 605.8, "LINK": 36.2, "ADA": 1.35, "DOT": 35.9,
    "XRP": 1.59, "LTC": 262.7, "UNI": 41.5, "ATOM": 22.4, "SOL": 43.1, "DAI": 1.0, "LRC": 0.53,
}  # fmt: skip
"""US dollars, around May 2021."""
MULTIPLIERS: Final = (1_000_000, 1_000_000_000)
PAIR_SCHEMA: Final = "{base_symbol:string,quote_symbol:string,multiplier:u64}/{px:u64}"
SCRIPTS: Final = {
    1: ("DEX_01", PAIR_SCHEMA),
    3: ("Crypto Price Script", "{symbols:[string],multiplier:u64}/{rates:[u64]}"),
    4: ("OS 04", PAIR_SCHEMA),
}
SCRIPT_WEIGHTS: Final = {1: 7, 3: 86, 4: 7}
VALIDATORS: Final = tuple(f"bandvaloper1{name * 9}ql" for name in ("yplk", "trx2", "alzj", "v38h", "yyv5", "qm9g"))
FIRST_HEIGHT: Final = 6_500_000


class OracleRequests(Generator):
    """Requests from `start` on, for so many `minutes`, `every` so many seconds in the mean."""

    columns = COLUMNS

    start: Instant = datetime(2021, 5, 1, tzinfo=UTC)
    minutes: Positive = 60.0
    seed: int = 0
    every: Positive = 1.0
    first_id: int = 1_400_000

    def tables(self, from_us: int | None = None) -> Iterator[pa.Table]:
        rows: list[Row] = []
        until = self.start + timedelta(minutes=self.minutes)
        for row in _rows(self.start, until, self.first_id, random.Random(self.seed), self.every):
            rows.append(row)
            if len(rows) == TABLE_ROWS:
                yield pa.Table.from_pylist(rows, SCHEMA)
                rows = []
        if rows:
            yield pa.Table.from_pylist(rows, SCHEMA)


GENERATOR: Final = GeneratorKind(OracleRequests)


def _rows(start: datetime, until: datetime, first_id: int, chance: random.Random, every: float) -> Iterator[Row]:
    now, number = start, first_id
    prices = dict(PRICES)
    while now < until:
        script = chance.choices(list(SCRIPT_WEIGHTS), list(SCRIPT_WEIGHTS.values()))[0]
        for symbol in prices:
            prices[symbol] *= math.exp(chance.gauss(0, 0.0004))
        question, answer = _rates(prices, chance) if script == 3 else _pair(prices, chance)
        yield _row(now, number, script, question, answer, chance)
        now += timedelta(seconds=_gap(chance, every))
        number += 1


def _gap(chance: random.Random, every: float) -> float:
    """One in ten comes with the one before it, in the same block, and one in ten shortly after it."""
    kind = chance.random()
    if kind < 0.1:
        return 0.0
    return chance.uniform(0, 0.1 * every) if kind < 0.2 else chance.expovariate(0.8 / every)


def _rates(prices: dict[str, float], chance: random.Random) -> tuple[Row, Row]:
    """Script 3; in one of a hundred a rate is missing, which the pipeline has to notice."""
    symbols = chance.sample(list(prices), chance.randint(5, 12))
    multiplier = chance.choice(MULTIPLIERS)
    rates = [int(prices[symbol] * multiplier) for symbol in symbols]
    if chance.random() < 0.01:
        rates.pop()
    return {"symbols": symbols, "multiplier": multiplier}, {"rates": rates}


def _pair(prices: dict[str, float], chance: random.Random) -> tuple[Row, Row]:
    """Scripts 1 and 4."""
    symbol = chance.choice(list(prices))
    multiplier = MULTIPLIERS[0]
    question = {"base_symbol": symbol, "quote_symbol": "USD", "multiplier": multiplier}
    return question, {"px": int(prices[symbol] * multiplier)}


def _row(now: datetime, number: int, script: int, question: Row, answer: Row, chance: random.Random) -> Row:
    validators = chance.sample(VALIDATORS, 4)
    asked = now - timedelta(seconds=6)
    height = FIRST_HEIGHT + int(now.timestamp() / 3) % 1_000_000
    packet = {"oracle_script_id": script, "calldata": _base64(_obi(question))}
    sources = [(external, external % 3 + 1) for external in (11, 12, 21)]
    prices = [f"{value:.6f}\n".encode() for value in (chance.uniform(0.99, 1.01) for _ in sources)]
    name, schema = SCRIPTS[script]
    return {
        "block_height": height,
        "block_timestamp": f"{now:%Y-%m-%dT%H:%M:%S.%f}{height % 1000:03d}Z",
        "block_timestamp_truncated": now,
        "oracle_request_id": number,
        "request": packet
        | {
            "requested_validators": validators,
            "min_count": 3,
            "request_height": height - 2,
            "request_time": asked,
            "raw_requests": [
                {"external_id": external, "data_source_id": source, "calldata": _base64(b"USD")}
                for external, source in sources
            ],
        },
        "reports": [
            {
                "raw_reports": [
                    {"exit_code": 0, "data": price, "external_id": external}
                    for (external, _), price in zip(sources, prices, strict=True)
                ],
                "in_before_resolve": True,
                "validator": validator,
            }
            for validator in validators
        ],
        "result": {
            "request_packet_data": packet | {"ask_count": 4, "min_count": 3},
            "response_packet_data": {
                "request_id": number,
                "ans_count": 4,
                "request_time": int(asked.timestamp()),
                "resolve_time": int(now.timestamp()),
                "resolve_status": 1,
                "result": _base64(_obi(answer)),
            },
        },
        "decoded_result": {
            "calldata": json.dumps(question, separators=(",", ":")),
            "result": json.dumps(answer, separators=(",", ":")),
        },
        "oracle_script": {
            "owner": "band17f6n25na5kume99j4qdfzlf7jnpu9u2neqqvt8",
            "name": name,
            "description": "TBD",
            "filename": f"{script:064x}",
            "schema": schema,
            "source_code_url": f"https://ipfs.io/ipfs/script-{script}",
        },
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _obi(value: object) -> bytes:
    """Band's own binary encoding: https://docs.bandchain.org/develop/developer-guides/obi"""
    match value:
        case dict():
            return b"".join(_obi(each) for each in value.values())
        case list():
            return struct.pack(">I", len(value)) + b"".join(_obi(each) for each in value)
        case str():
            return struct.pack(">I", len(value)) + value.encode()
    return struct.pack(">Q", value)
