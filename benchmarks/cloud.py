"""Makes a server of this machine look like the cloud to unpatched clients: name, TLS, proxy and credentials."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.processes import await_port, serving
from rejeu.gcp.clients import PUBSUB
from rejeu.local.processes.ports import HOST, free_port
from rejeu.local.servers.metadata import MetadataServer

ROOTS: Final = "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"
PROXY: Final = "grpc_proxy"
METADATA: Final = ("GCE_METADATA_HOST", "GCE_METADATA_IP")
OWN_CREDENTIALS: Final = "CLOUDSDK_CONFIG"
"""The folder of a developer's own credentials, which must not be used."""
VARIABLES: Final = (ROOTS, PROXY, *METADATA, OWN_CREDENTIALS, "GOOGLE_APPLICATION_CREDENTIALS")
"""The environment variables by which clients find the cloud and its credentials."""
VALID: Final = timedelta(days=1)


def write_certificate(folder: Path) -> Path:
    """A PEM file of a private key and a self-signed certificate for Pub/Sub's own name."""
    key = ec.generate_private_key(ec.SECP256R1())
    host, now = PUBSUB.partition(":")[0], datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + VALID)
    names = x509.SubjectAlternativeName([x509.DNSName(host)])
    certificate = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    file = folder / "server.pem"
    file.write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain) + certificate.public_bytes(encoding)
    )
    return file


@contextmanager
def leading_to(port: int, certificate: Path) -> Iterator[dict[str, str]]:
    """The environment in which every client takes the TLS server on this port for Pub/Sub.

    gRPC reaches it through a proxy, which passes on encrypted bytes; the proxy's CPU is not counted.
    """
    with MetadataServer(0, "rejeu-bench") as metadata:
        threading.Thread(target=metadata.serve_forever, daemon=True).start()
        proxy = free_port()
        tunnel = [sys.executable, "-m", "benchmarks.tunnel", f"--host={HOST}", f"--port={proxy}", f"--to-port={port}"]
        await_port(port, "the server")
        with serving(tunnel):
            await_port(proxy, "the tunnel")
            yield {
                ROOTS: str(certificate),
                PROXY: f"http://{HOST}:{proxy}",
                OWN_CREDENTIALS: str(certificate.parent),
                **dict.fromkeys(METADATA, f"{HOST}:{metadata.server_port}"),
            }
        metadata.shutdown()
