"""What every page of ours is made in: one self-contained file, no network, readable without a script, plots with one."""

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from yoloperf import __version__
from yoloperf.report.evidence import CONTRADICTED, MIXED, NOT_TESTABLE, SUPPORTED
from yoloperf.report.vega import Chart

MARKS = {SUPPORTED: "✔", CONTRADICTED: "✘", MIXED: "◐", NOT_TESTABLE: "?"}
VEGA_LITE = "6.4"  # of those that vl-convert-python carries


def render(template: str, charts: Sequence[Chart], package: str = "yoloperf.report", **values: Any) -> str:
    """A page from a template of `package` that extends base.html, which needs heading, subtitle, sections and sources. Script and
    plots are named by their hash: nothing else on the page may run."""
    loader = ChoiceLoader([PackageLoader(package), PackageLoader("yoloperf.report")])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    library, script = plot_library(), _asset("page.js")
    return environment.get_template(template).render(
        **values,
        charts=charts,
        version=__version__,
        hashes=f"{_hash(library)} {_hash(script)}",
        css=Markup(_asset("page.css")),
        js=Markup(script),
        library=Markup(library),
        data=_json([[spec for _, spec in chart.variants] for chart in charts]),
    )


@cache
def plot_library() -> str:
    """Vega, Vega-Lite and vega-embed as one script (BSD-3-Clause), from the wheel of vl-convert-python: nothing is fetched."""
    import vl_convert  # loads a JavaScript engine: only pages need it

    script = str(vl_convert.javascript_bundle(None, VEGA_LITE))  # type: ignore[arg-type]  # None: no snippet, all of it
    assert "</script" not in script
    return script


def _asset(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text()


def _hash(script: str) -> str:
    """The script's name in a Content-Security-Policy."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() + "'"


def _json(data: object) -> Markup:
    """Data that no text in it can end: < is written as an escape."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))
