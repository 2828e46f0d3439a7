"""`sphinx-build -W --keep-going docs build/site` makes a site of these pages; a warning, such as a broken link, is an error."""

project = "tnacli"
html_title = "tnacli"
html_theme = "furo"
extensions = ["myst_parser"]
myst_heading_anchors = 3
html_show_sourcelink = False
