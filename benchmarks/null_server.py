"""`python -m benchmarks.null_server`: acknowledges everything and keeps nothing, so that only the client is measured.

With `--record` it writes messages and their times of arrival to a file; with `--tls` it uses TLS, as the cloud does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from benchmarks.record import Recorder
from rejeu.replay.send.answers import PublishResponse

SERVICE: Final = "google.pubsub.v1.Publisher"
OPTIONS: Final = (("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1))

Method = Callable[[bytes, object], bytes]


def _opaque_request() -> Any:
    """The class of a PublishRequest whose messages stay bytes: they are only counted."""
    file = descriptor_pb2.FileDescriptorProto(name="opaque.proto", package="benchmarks")
    file.message_type.add(name="PublishRequest").field.add(
        name="messages",
        number=2,
        label=descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED,
        type=descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("benchmarks.PublishRequest"))


OpaqueRequest = _opaque_request()


def publish(request: bytes, _context: object = None) -> bytes:
    """An id for every message."""
    return _ids(len(OpaqueRequest.FromString(request).messages))


@lru_cache
def _ids(count: int) -> bytes:
    return bytes(PublishResponse(message_ids=[str(n) for n in range(count)]).SerializeToString())


def recorded(recorder: Recorder) -> Method:
    """`publish`, which also notes each request."""

    def note_and_publish(request: bytes, _context: object) -> bytes:
        recorder.note(request)
        return publish(request)

    return note_and_publish


def echo(request: bytes, _context: object) -> bytes:
    """Returns the request: a Topic and a GetTopicRequest both have the name in their first field."""
    return request


def build_server(answer: Method = publish) -> grpc.Server:
    """A server without a port yet, which takes and returns bytes."""
    server = grpc.server(ThreadPoolExecutor(2), options=OPTIONS)
    methods = {"Publish": answer, "CreateTopic": echo, "GetTopic": echo}
    handlers = {name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    return server


def main() -> None:
    """Serve until a signal ends the process: there is nothing to save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.null_server", description=__doc__)
    parser.add_argument("--host", required=True, help="address to listen on")
    parser.add_argument("--port", type=int, required=True, help="port to listen on")
    parser.add_argument("--record", type=Path, help="file for what arrives, as benchmarks.record has it")
    parser.add_argument("--tls", type=Path, help="PEM file of a private key and its certificate")
    arguments = parser.parse_args()
    server = build_server(recorded(Recorder(arguments.record)) if arguments.record else publish)
    address = f"{arguments.host}:{arguments.port}"
    if arguments.tls:
        pem = arguments.tls.read_bytes()
        server.add_secure_port(address, grpc.ssl_server_credentials([(pem, pem)]))
    else:
        server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
