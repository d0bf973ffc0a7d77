"""`python -m benchmarks.tunnel`: an HTTP proxy that leads clients of the cloud to a server of this machine."""

from __future__ import annotations

import argparse
import asyncio
from contextlib import suppress
from typing import Final

CHUNK: Final = 1 << 20
ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"


async def serve(host: str, port: int, to_port: int) -> None:
    """Answer every CONNECT, for any host, with a connection to `to_port`, and pass the bytes on unread."""

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        there_reader, there_writer = await asyncio.open_connection(host, to_port, limit=CHUNK)
        writer.write(ESTABLISHED)
        await asyncio.gather(_pass_on(reader, there_writer), _pass_on(there_reader, writer))

    async with await asyncio.start_server(connect, host, port, limit=CHUNK) as server:
        await server.serve_forever()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()


def main() -> None:
    """Serve until a signal ends the process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tunnel", description=__doc__)
    parser.add_argument("--host", required=True, help="address to listen on, and of the server behind")
    parser.add_argument("--port", type=int, required=True, help="port to listen on")
    parser.add_argument("--to-port", type=int, required=True, help="port of the server behind")
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.host, arguments.port, arguments.to_port))


if __name__ == "__main__":
    main()
