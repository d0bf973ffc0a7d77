"""Finds Google's own Pub/Sub emulator on this machine; starting and stopping it is the stack's."""

import shutil
from pathlib import Path

_JARS = "platform/pubsub-emulator/lib/cloud-pubsub-emulator-*-all.jar"


def find_google_emulator() -> list[str] | None:
    """The command that starts the emulator of the gcloud SDK, or None where PATH has no Java or no SDK with it.

    Add `--host=HOST` and `--port=PORT`, with the equals sign: written as two words the emulator reads an empty value
    and dies. It is the jar itself, because the SDK's scripts leave Java running when they are killed.
    """
    java, gcloud = shutil.which("java"), shutil.which("gcloud")
    if java is None or gcloud is None:
        return None
    # `gcloud info` would know the SDK's folder as well, a second later.
    jars = sorted(Path(gcloud).resolve().parent.parent.glob(_JARS))
    return [java, "-jar", str(jars[-1])] if jars else None
