"""How Sphinx builds the site: `make docs`. Offline: no fonts, scripts or inventories from elsewhere."""

from __future__ import annotations

from typing import Final

import rejeu

project: Final = "Rejeu"
author: Final = "The Rejeu authors"
project_copyright: Final = "2026, The Rejeu authors. Apache-2.0"
version: Final = rejeu.__version__
release: Final = rejeu.__version__

extensions: Final = ["myst_parser"]
myst_enable_extensions: Final = ["colon_fence", "deflist"]
myst_heading_anchors: Final = 4
nitpicky: Final = True
root_doc: Final = "index"


html_theme: Final = "furo"
html_title: Final = f"Rejeu {rejeu.__version__}"
html_static_path: Final = ["style"]
html_css_files: Final = ["site.css"]
html_copy_source: Final = False
html_show_sphinx: Final = False
pygments_style: Final = "friendly"
pygments_dark_style: Final = "monokai"
