"""Renders `report.json` as one self-contained HTML page and as Markdown: same input, same bytes."""

import base64
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.report import cost, findings, formatting, metrics, results, safe_text, sections, story
from pipeline.report.charts import Chart, training_charts
from pipeline.report.load import ReportError, load_report, parse
from pipeline.report.sankey import sankey_chart
from pipeline.report.schema import Report

__all__ = ["ReportError", "load_report", "render_html", "render_markdown", "write_report"]

TEMPLATES = Path(__file__).parent / "templates"
_MAX_SAMPLES, _MAX_PREVIEWS = 10, 4
_OUTCOMES = {"ran": "ran", "cached": "cached", "resumed": "resumed", "failed": "failed"}


def write_report(report: dict[str, Any], folder: Path) -> Path:
    """Write `report.html` and `report.md` into `folder`, each by rename, and return the path of the page."""
    parsed = parse(report)
    write_whole(folder / "report.md", render_markdown(parsed))
    write_whole(folder / "report.html", render_html(parsed))
    return folder / "report.html"


def render_html(report: Report) -> str:
    """The page: styles, charts and the one small script inside, nothing loaded from elsewhere."""
    script = (TEMPLATES / "copy.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    charts = {name: safe_charts(training_charts(training, name)) for name, training in report.training.items()}
    template = environment(autoescape=True).get_template("report.html.j2")
    style = Markup((TEMPLATES / "style.css").read_text("utf-8"))
    drawn = {name: sankey_chart(data.funnel) for name, data in report.data.items()}
    sankeys = {name: safe_charts([chart])[0] if chart else None for name, chart in drawn.items()}
    return template.render(
        **_context(report),
        charts=charts,
        sankeys=sankeys,
        style=style,
        script=Markup(script),
        script_digest=digest,
    )


def render_markdown(report: Report) -> str:
    """The same content for a pull request or a terminal: verdict first, then tables."""
    made = environment(autoescape=False, finalize=safe_text.markdown)
    made.filters["fenced"] = safe_text.fenced
    return made.get_template("report.md.j2").render(**_context(report)).rstrip() + "\n"


def safe_charts(charts: list[Chart]) -> list[dict[str, Any]]:
    """Charts whose SVG a template takes as it is."""
    # the charts hold numbers and our own words only, so their SVG goes in unescaped
    return [chart._asdict() | {"wide": Markup(chart.wide), "narrow": Markup(chart.narrow)} for chart in charts]


def environment(autoescape: bool, **options: Any) -> Environment:
    """Jinja with the report's templates and number formats; an undefined name is an error."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )
    made.filters |= {
        name: getattr(formatting, name) for name in ("number", "count", "size", "duration", "date", "percent", "value")
    }
    made.filters["one_line"] = safe_text.one_line
    return made


def _context(report: Report) -> dict[str, Any]:
    rows = results.metric_rows(report)
    verdict = results.headline_row(report)
    forgetting = findings.forgetting(report, [row for each in rows.values() for row in each])
    headline_rows = rows.get(verdict.comparison, []) if verdict else []
    return {
        "report": report,
        "verdict": verdict,
        "failed": report.run.failed or report.run.status == "failed",
        "sentence": results.banner_sentence(report),
        "tiles": results.tiles(report),
        "tally": results.tally(headline_rows) if len(headline_rows) > 1 else "",
        "metric_rows": rows,
        "scores": results.scores(report),
        "confidence": results.confidence(report),
        "tuned_on": story.tuned_on(report),
        "model_name": story.model_name(report),
        "next_steps": story.next_steps(report),
        "not_measured": story.not_measured(report),
        "samples": _samples(report),
        "outcomes": _OUTCOMES,
        "sections": sections,
        "cost": cost,
        "meaning": metrics.meaning(verdict.metric) if verdict else "",
        "relative": cost.relative(report.verdict.base, report.verdict.difference) if report.verdict else "",
        "findings": findings,
        "forgetting": forgetting,
        "forgotten": {row.task for row in forgetting.rows} if forgetting else set(),
        "fairness": findings.fairness(headline_rows),
        "max_previews": _MAX_PREVIEWS,
    }


def _samples(report: Report) -> dict[str, dict[str, Any]]:
    """Per comparison: its metric, wins and regressions, ready to show."""
    shown = {}
    for name, samples in report.evaluation.samples.items():
        if samples.wins or samples.regressions:
            wins, losses = (
                [sections.shown_sample(item) for item in side[:_MAX_SAMPLES]]
                for side in (samples.wins, samples.regressions)
            )
            shown[name] = {
                "task": samples.task or "",
                "metric": results.label(samples.metric or "score"),
                "wins": wins,
                "regressions": losses,
            }
    return shown


def write_whole(path: Path, text: str) -> None:
    """Write by rename: a reader sees the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        os.chmod(draft, 0o644)  # mkstemp makes it private; a report is for sharing
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
