"""Where the project's own files lie, wherever a test stands."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PLUGINS: Final = ROOT / "plugins"
STREAMS: Final = ROOT / "dags" / "streams"
