"""A check as one HTML page that opens from the disk, and its figure."""

import base64
import html
import io
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from walls.figures import style
from walls.sanity import plots
from walls.sanity.report import Report

STYLE = """
:root { color-scheme: light dark; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 0.9rem; }
th, td { padding: 0.25rem 0.6rem; text-align: right; white-space: nowrap; }
th, td { border-bottom: 1px solid #8884; }
th:first-child, td:first-child, td:last-child, th:last-child { text-align: left; }
img { max-width: 100%; height: auto; background: #fff; }
"""


def write(report: Report, folder: Path, title: str) -> None:
    """Write report.png and report.html into `folder`."""
    with plt.rc_context():
        style.use_style()
        figures = [plots.overview(report)]
        for image in range(len(next(iter(report.images.values())))):
            figures.append(plots.maps(report, image))
        style.save_sheet(figures[0], folder, "report")
        pictures = [_embedded(figure) for figure in figures]
    text = "\n".join(_body(report, title, pictures))
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    view = '<meta name="viewport" content="width=device-width">'
    (folder / "report.html").write_text(
        f'<!doctype html><html lang="en"><head>{view}{head}</head><body>{text}</body></html>\n',
        encoding="utf-8",
    )


def _body(report: Report, title: str, pictures: list[str]) -> list[str]:
    """The page's parts, in order."""
    negative = "their size" if report.sign == "abs" else "0"
    overview, *maps = pictures
    few = [f'<img src="{picture}" alt="Maps of one image under each control">' for picture in maps]
    return [
        f"<h1>{html.escape(title)}: do its saliency maps show what it can't see?</h1>",
        f"<p>{report.certified()} µ is the l2 norm of a map's part in the "
        f"{report.zone.measured_rows} rows whose scores come from hidden features alone, over that "
        "of the whole map. A map that is the same everywhere has µ×100 = "
        f"{100 * report.uniform:.1f}. Scores below zero count as {negative}.</p>",
        "<h2>Verdicts</h2>",
        f'<div class="wide">{report.wide().to_html(border=0)}</div>',
        "<p>Mean µ×100 and its 95% interval, by resampling whole classes. The same upper part "
        "stands above another image of its class, an image of another class, noise, or grey.</p>",
        f'<p><img src="{overview}" alt="Mean µ of every method under each control"></p>',
        "<h2>Maps</h2>",
        *few,
    ]


def _embedded(figure: Figure) -> str:
    """A figure as a data address, so that the page is one file."""
    stream = io.BytesIO()
    figure.savefig(stream, dpi=160, metadata={"Software": None})
    plt.close(figure)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
