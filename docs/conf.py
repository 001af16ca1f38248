"""Sphinx's configuration: the pages of this folder as a site, made by `scripts/docs`."""

from monitor import __version__

project = "Stethos"
author = "The Stethos project"
version = release = __version__
extensions = ["myst_parser", "sphinx_copybutton"]
exclude_patterns = ["conf.py"]
myst_enable_extensions = ["fieldlist"]
myst_heading_anchors = 4  # as the hosts of repositories make them, so that the same links work there
nitpicky = True
html_theme = "furo"
html_title = "Stethos"
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#33505e", "color-brand-content": "#33505e"},
    "dark_css_variables": {"color-brand-primary": "#9fc0cf", "color-brand-content": "#9fc0cf"},
}
