"""Writes a comparison: comparison.html, comparison.md and comparison.json, each by rename; same input, same bytes."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pipeline.report import safe_text
from pipeline.report.comparison import words
from pipeline.report.comparison.build import Comparison
from pipeline.report.comparison.charts import effect_charts, pareto_charts
from pipeline.report.comparison.laws import law_charts, law_rows, law_sentence, laws_of
from pipeline.report.render import TEMPLATES, environment, safe_charts, write_whole


def write_comparison(found: Comparison, folder: Path) -> Path:
    """Write the three files and return the path of the page."""
    write_whole(folder / "comparison.json", json.dumps(as_json(found), indent=1, ensure_ascii=False) + "\n")
    write_whole(folder / "comparison.md", markdown(found))
    write_whole(folder / "comparison.html", html(found))
    return folder / "comparison.html"


def html(found: Comparison) -> str:
    """The page, self-contained."""
    script = (TEMPLATES / "sort.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    effects = effect_charts(found)
    drawn = safe_charts([chart for _, chart in effects])
    fronts = pareto_charts(found)
    front_drawn = safe_charts([chart for _, chart in fronts])
    laws = laws_of(found)
    law_drawn = safe_charts(law_charts(laws))
    template = environment(autoescape=True).get_template("comparison.html.j2")
    return template.render(
        **_context(found),
        laws=[(law_sentence(law), chart, law_rows(law)) for law, chart in zip(laws, law_drawn, strict=True)],
        pareto=[(cost, chart) for (cost, _), chart in zip(fronts, front_drawn, strict=True)],
        effects=[(key, chart, words.effect_rows(found, key)) for (key, _), chart in zip(effects, drawn, strict=True)],
        more_settings=list(found.settings)[len(effects) :],
        has_energy=any("energy" in run.entry.costs for run in found.runs),
        style=Markup((TEMPLATES / "style.css").read_text("utf-8")),
        script=Markup(script),
        script_digest=digest,
    )


def markdown(found: Comparison) -> str:
    """The same for a terminal or a pull request."""
    template = environment(autoescape=False, finalize=safe_text.markdown).get_template("comparison.md.j2")
    effects = [(key, words.effect_rows(found, key)) for key in list(found.settings)[:6]]
    laws = [(law_sentence(law), law_rows(law)) for law in laws_of(found)]
    return template.render(**_context(found), effects=effects, laws=laws).rstrip() + "\n"


def _context(found: Comparison) -> dict[str, Any]:
    tone, sentence = words.headline(found)
    return {
        "found": found,
        "tone": tone,
        "sentence": sentence,
        "notes": words.notes(found),
        "rows": words.rows(found),
    }


def as_json(found: Comparison) -> dict[str, Any]:
    """Everything that the page shows, as numbers."""
    return {
        "task": found.task,
        "metric": found.metric,
        "sentence": words.headline(found)[1],
        "runs": [
            {
                "id": run.entry.id,
                "folder": run.entry.folder,
                "score": run.value,
                "against_base": run.entry.gains.get(found.task, {}).get(found.metric),
                "against_best": run.cell,
                "not_tested": run.why_not or None,
                "costs": dict(run.entry.costs),
                "best_at_its": sorted(run.fronts),
                "settings": {key: values[place] for key, values in found.settings.items()},
            }
            for place, run in enumerate(found.runs)
        ],
        "left_out": found.left_out,
    }
