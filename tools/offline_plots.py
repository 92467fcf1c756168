"""Make the pages of `dvc plots` draw without a network: run by `make setup`.

DVC's own page loads Vega from a CDN. This writes a page template that carries Vega inside and
tells this checkout, not the repository, to use it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import vl_convert
from dvc.repo import Repo

from src.core.cli import InputError, run
from src.core.files import replacing
from tools.dvc_files import editing

TEMPLATE = Path(".dvc/plots/offline.html")  # ignored by Git: it is made from a pinned package

# DVC fills in {refresh_tag} and {plot_divs}; without {scripts} it asks no CDN for anything.
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <link rel="icon" href="data:,">
    {refresh_tag}
    <title>Plots</title>
    <style>
        body { font-family: system-ui, sans-serif; margin: 1rem; }
        body > div { display: inline-block; margin: 0.5rem; vertical-align: top; max-width: 100%; }
        img, svg.marks { max-width: 100%; height: auto; }
        /* Documents: plots to DVC, so that Git and the run cache keep them; nothing to draw. */
        div[id^="metrics_"] { display: none; }
    </style>
    <script>VEGA</script>
</head>
<body>
    {plot_divs}
</body>
</html>
"""


def offline_page() -> str:
    """Return a page template for `dvc plots` that holds Vega, Vega-Lite and Vega-Embed.

    Raises:
        InputError: the scripts hold a placeholder that DVC would overwrite.
    """
    scripts = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed")  # what DVC's pages call
    for placeholder in ("{refresh_tag}", "{scripts}", "{plot_divs}"):
        if placeholder in scripts:
            raise InputError(f"the Vega bundle contains {placeholder}, which DVC would replace")
    # A closing tag inside a string of the scripts would end them for the browser.
    return PAGE.replace("VEGA", scripts.replace("</script", "<\\/script"))


def main(argv: Sequence[str] | None = None) -> None:
    """Write the template and name it in .dvc/config.local."""
    argparse.ArgumentParser(description=__doc__).parse_args(argv)
    with replacing(TEMPLATE) as temporary:
        temporary.write_text(offline_page(), encoding="utf-8")
    with Repo() as repo, editing(repo, "local") as document:
        # DVC reads a relative template path from the folder .dvc.
        document["plots"]["html_template"] = TEMPLATE.relative_to(".dvc").as_posix()


if __name__ == "__main__":
    run(main)
