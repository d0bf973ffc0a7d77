"""Finds Google's own Pub/Sub emulator on this machine; starting and stopping it is the stack's."""

import shutil
from collections.abc import Iterator
from pathlib import Path

_DEBIAN_SDK = Path("/usr/lib/google-cloud-sdk")
_JARS = "platform/pubsub-emulator/lib/cloud-pubsub-emulator-*-all.jar"


def find_google_emulator() -> list[str] | None:
    """The command that starts the emulator of the gcloud SDK, or None where Java, the SDK or its component is missing.

    Add `--host=HOST` and `--port=PORT`, with the equals sign: written as two words the emulator reads an empty value
    and dies. It is the jar itself, because the SDK's scripts leave Java running when they are killed.
    """
    java = shutil.which("java")
    jar = next((jar for sdk in _sdk_roots() for jar in sorted(sdk.glob(_JARS), reverse=True)), None)
    return [java, "-jar", str(jar)] if java and jar else None


def _sdk_roots() -> Iterator[Path]:
    # `gcloud info` would know as well, a second later.
    if gcloud := shutil.which("gcloud"):
        yield Path(gcloud).resolve().parent.parent
    yield _DEBIAN_SDK
