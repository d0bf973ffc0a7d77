"""The command line of the built-in Pub/Sub server: arguments, port and signals."""

import argparse
import asyncio
import os
import signal
import socket
import sys

from rejeu.local.servers.pubsub.service import build_server


def main() -> None:
    """Serve until SIGTERM or SIGINT; exit code 2 where the address cannot be had."""
    parser = argparse.ArgumentParser(
        prog="python -m rejeu.local.servers.pubsub", description="Pub/Sub in memory, for one machine."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8085, help="0 takes a free one (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        # gRPC would bury the reason in its own log, so the port is tried without it first.
        socket.create_server((arguments.host, arguments.port)).close()
    except (OSError, OverflowError) as error:
        reason = f"cannot listen on {arguments.host}:{arguments.port} ({error}): stop what is there, or take --port 0."
        print(reason, file=sys.stderr)
        sys.exit(2)
    asyncio.run(_serve(arguments.host, arguments.port))


async def _serve(host: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    for stop in (signal.SIGTERM, signal.SIGINT):
        # There is nothing to save; clients see the connection break and make it again.
        loop.add_signal_handler(stop, os._exit, 0)
    server = build_server()
    taken = server.add_insecure_port(f"{host}:{port}")
    await server.start()
    print(f"Pub/Sub is listening on {host}:{taken}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    main()
