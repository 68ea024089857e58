"""A page that stands alone: template, style, script and charts in one file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from edgebench.report.charts import Chart

_TEMPLATES = resources.files("edgebench.report") / "templates"


def rendered(template: str, by_id: Mapping[str, Chart], /, **values: Any) -> str:
    """The page. by_id: charts by the id of the element that each is drawn in."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_asset(template)).render(
        **values,
        css=Markup(_asset("report.css")),  # noqa: S704 our own files
        script=Markup(_asset("report.js")),  # noqa: S704
        plotly_js=Markup(get_plotlyjs()),  # noqa: S704
        figures_json=Markup(_encoded(by_id)),  # noqa: S704 escaped there
    )


def _encoded(by_id: Mapping[str, Chart]) -> str:
    """As JSON in which nothing can end the script element that it stands in."""
    encoded = json.dumps(by_id, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return encoded.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _asset(name: str) -> str:
    return (_TEMPLATES / name).read_text("utf-8")
