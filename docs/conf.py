"""`sphinx-build -W --keep-going docs build/site` makes a site of these pages; a warning, such as a broken link, is an error."""

project = "tnacli"
html_title = "tnacli"
html_theme = "furo"
extensions = ["myst_parser"]
myst_heading_anchors = 3
exclude_patterns = ["results"]
html_show_sourcelink = False
