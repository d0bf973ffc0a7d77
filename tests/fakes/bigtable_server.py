"""A Bigtable in this process, as small as our clients need, on the real wire, that misbehaves on command; no test.

Unlike Google's emulator it can be away, lose an answer, or refuse single rows; and it never removes old versions.
"""

from __future__ import annotations

import re
import threading
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import suppress
from typing import Any, Final, Literal, Self

import grpc
from google.cloud import bigtable_admin_v2, bigtable_v2
from google.protobuf.wrappers_pb2 import BytesValue, StringValue
from google.rpc.status_pb2 import Status

# The bare messages: with the wrappers that the clients use, a scan takes seconds.
MutateRowsRequest, MutateRowsResponse = bigtable_v2.MutateRowsRequest.pb(), bigtable_v2.MutateRowsResponse.pb()
ReadRowsRequest, ReadRowsResponse = bigtable_v2.ReadRowsRequest.pb(), bigtable_v2.ReadRowsResponse.pb()
CreateTableRequest, GetTableRequest = bigtable_admin_v2.CreateTableRequest.pb(), bigtable_admin_v2.GetTableRequest.pb()
ModifyColumnFamiliesRequest = bigtable_admin_v2.ModifyColumnFamiliesRequest.pb()
TableDescription = bigtable_admin_v2.Table.pb()

Code = grpc.StatusCode
Fault = Code | Literal["lost"] | None
"""Refuse the call with that status; do it, and have its answer get lost; or behave."""
Cells = dict[tuple[str, bytes], dict[int, bytes]]
"""By family and qualifier: the versions, each by its timestamp in microseconds."""
MAX_KEY_BYTES: Final = 4096


class Refusal(Exception):
    """A call that is answered with a status other than OK."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


class BigtableServer:
    """Holds tables of rows; each call is done alone."""

    def __init__(self) -> None:
        self.faults: Iterator[Fault] = iter(())
        """What befalls the next calls, one after the other; afterwards all goes well."""
        self.refused: Callable[[bytes], Code | None] = lambda key: None
        """With which status the row of this key is refused, while others are written."""
        self.before_answer: Callable[[str], None] = lambda method: None
        """What happens once a call is done, before it is answered."""
        self.calls: list[str] = []
        self.tables: dict[str, defaultdict[bytes, Cells]] = {}
        self._families: dict[str, set[str]] = {}
        self._lock = threading.RLock()
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        self._server.add_generic_rpc_handlers(self._services())
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()

    def _services(self) -> tuple[grpc.GenericRpcHandler, ...]:
        data = {
            "MutateRows": self._stream(self._mutate_rows, MutateRowsRequest, MutateRowsResponse),
            "ReadRows": self._stream(self._read_rows, ReadRowsRequest, ReadRowsResponse),
        }
        admin = {
            "CreateTable": self._single(self._create_table, CreateTableRequest, TableDescription),
            "GetTable": self._single(self._get_table, GetTableRequest, TableDescription),
            "ModifyColumnFamilies": self._single(self._modify_families, ModifyColumnFamiliesRequest, TableDescription),
        }
        return (
            grpc.method_handlers_generic_handler("google.bigtable.v2.Bigtable", data),
            grpc.method_handlers_generic_handler("google.bigtable.admin.v2.BigtableTableAdmin", admin),
        )

    def _stream(self, do: Callable[[Any], list[Any]], asked: Any, answered: Any) -> grpc.RpcMethodHandler:
        def serve(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            yield from self._answer(do, request, context)

        return grpc.unary_stream_rpc_method_handler(serve, asked.FromString, answered.SerializeToString)

    def _single(self, do: Callable[[Any], Any], asked: Any, answered: Any) -> grpc.RpcMethodHandler:
        def serve(request: Any, context: grpc.ServicerContext) -> Any:
            return self._answer(do, request, context)

        return grpc.unary_unary_rpc_method_handler(serve, asked.FromString, answered.SerializeToString)

    def _answer(self, do: Callable[[Any], Any], request: Any, context: grpc.ServicerContext) -> Any:
        method = do.__name__.removeprefix("_")
        with self._lock:
            self.calls.append(method)
            fault = next(self.faults, None)
            if isinstance(fault, Code):
                context.abort(fault, "as the test wants it")
            try:
                answer = do(request)
            except Refusal as refusal:
                context.abort(refusal.code, str(refusal))
        self.before_answer(method)
        if fault == "lost":
            context.abort(Code.UNAVAILABLE, "the answer is lost")
        return answer

    def _create_table(self, request: Any) -> Any:
        name = f"{request.parent}/tables/{request.table_id}"
        if name in self.tables:
            raise Refusal(Code.ALREADY_EXISTS, f"table {name!r} already exists")
        self.tables[name] = defaultdict(dict)
        self._families[name] = set(request.table.column_families)
        return self._description(name)

    def _get_table(self, request: Any) -> Any:
        return self._description(request.name)

    def _modify_families(self, request: Any) -> Any:
        self._families[request.name] |= {each.id for each in request.modifications}
        return self._description(request.name)

    def _description(self, name: str) -> Any:
        described = TableDescription(name=name)
        for family in self._families[name]:
            described.column_families[family].SetInParent()
        return described

    def _mutate_rows(self, request: Any) -> list[Any]:
        rows = self._rows(request.table_name)
        results = []
        for index, entry in enumerate(request.entries):
            code = self.refused(entry.row_key) or self._fault_of(request.table_name, entry)
            if code is None:
                for mutation in entry.mutations:
                    cell = mutation.set_cell
                    versions = rows[entry.row_key].setdefault((cell.family_name, cell.column_qualifier), {})
                    versions[cell.timestamp_micros] = cell.value
            status = Status(code=code.value[0], message="refused") if code else Status()
            results.append(MutateRowsResponse.Entry(index=index, status=status))
        return [MutateRowsResponse(entries=results)]

    def _fault_of(self, table: str, entry: Any) -> Code | None:
        families = {mutation.set_cell.family_name for mutation in entry.mutations}
        if not families <= self._families[table]:
            return Code.NOT_FOUND
        return Code.INVALID_ARGUMENT if len(entry.row_key) > MAX_KEY_BYTES else None

    def _read_rows(self, request: Any) -> list[Any]:
        rows = self._rows(request.table_name)
        keys, wanted = sorted(rows), set[bytes]()
        for each in request.rows.row_ranges:
            # A client that goes on after the last row that it has begins with an open key.
            first = bisect_right(keys, each.start_key_open) if each.start_key_open else 0
            first = first or bisect_left(keys, each.start_key_closed)
            wanted.update(keys[first : bisect_left(keys, each.end_key_open)])
        chunks = (_chunks(key, _filtered(rows[key], request.filter)) for key in sorted(wanted))
        return [ReadRowsResponse(chunks=each) for each in chunks if each]

    def _rows(self, table: str) -> defaultdict[bytes, Cells]:
        if table not in self.tables:
            raise Refusal(Code.NOT_FOUND, f"table {table!r} not found")
        return self.tables[table]


def _filtered(cells: Cells, wanted: Any) -> Cells:
    """What the filters that our clients send leave of a row."""
    for each in wanted.chain.filters or [wanted]:
        if each.column_qualifier_regex_filter:
            pattern = each.column_qualifier_regex_filter
            cells = {name: versions for name, versions in cells.items() if re.fullmatch(pattern, name[1])}
        elif each.cells_per_column_limit_filter:
            limit = each.cells_per_column_limit_filter
            newest = {name: sorted(versions, reverse=True)[:limit] for name, versions in cells.items()}
            cells = {name: {stamp: cells[name][stamp] for stamp in stamps} for name, stamps in newest.items()}
        else:
            raise Refusal(Code.UNIMPLEMENTED, f"filter {each}")
    return cells


def _chunks(key: bytes, cells: Cells) -> list[Any]:
    chunks = [
        ReadRowsResponse.CellChunk(
            row_key=key,
            family_name=StringValue(value=family),
            qualifier=BytesValue(value=qualifier),
            timestamp_micros=stamp,
            value=value,
        )
        for (family, qualifier), versions in sorted(cells.items())
        for stamp, value in versions.items()
    ]
    with suppress(IndexError):
        chunks[-1].commit_row = True
    return chunks
