"""The site of the documentation: ``make docs`` builds it by Sphinx.

The root of the repository is the source folder, so that a relative link leads to the same file on the site as in a browser of
sources. Only the pages that ``include_patterns`` names are read.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels"), str(Path(__file__).parent / "_ext")]

from specenhance import __version__  # noqa: E402

project = "specenhance"
author = "The specenhance authors"
copyright = "The specenhance authors, Apache-2.0"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "reference",  # docs/_ext/reference.py
]
root_doc = "docs/index"
include_patterns = [
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md"),
    *("docs/*.md", "docs/api/*.rst", "docs/results/*.md", "examples/results/*.md"),
    *("benchmarks/*.md", "kernels/README.md", "examples/README.md", "examples/deploy_cpp/README.md"),
]
exclude_patterns = ["**/.*", ".*", "site", "runs", "specenhance", "tests"]  # not walked through

# Markdown: the headings have the anchors that they have in a browser of sources.
myst_heading_anchors = 4
highlight_language = "text"
copybutton_prompt_text = r"(\w+)?\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True

# The reference: Google's style of docstrings, in the order of the source.
autodoc_default_options = {"members": True, "show-inheritance": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autoclass_content = "class"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
add_module_names = False
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

# Every name of this library that a docstring refers to must exist.
nitpicky = True
nitpick_ignore_regex = [
    # The documentation of other packages is not at hand: a build needs no network.
    (r"py:.*", r"(?!specenhance)\w+\..*"),
    (r"py:class", r"Tensor|Path|Sampler|Dataset|_\w+"),
    (r"py:class", r"[\d.e-]+"),  # bounds in annotations
]

html_theme = "furo"
html_title = "specenhance"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"top_of_page_buttons": []}
html_copy_source = False

# `make docs-links` asks the web; links within the site are checked by each build.
linkcheck_timeout = 20
linkcheck_retries = 2
linkcheck_anchors = False
