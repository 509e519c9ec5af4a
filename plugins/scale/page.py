# SPDX-License-Identifier: Apache-2.0
"""`scale.html`: one page of one run or several, which needs nothing but itself."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plugins.scale import charts, literature, style
from plugins.scale import quantities as say
from plugins.scale.catalogue import Chart, ordered
from plugins.scale.cells import Cell, Scale
from plugins.scale.controls import Control, controls
from plugins.scale.literature import Published
from plugins.scale.panels import Group, Panel, groups, panels
from plugins.scale.sentences import sentences
from plugins.scale.table import Column, Each, table

HERE = Path(__file__).parent
SIGNS: Mapping[str, str] = {"holds": "✓", "does not hold": "✕", "not looked at": "?"}
SUBTITLE = (
    "How Services behave as there are more of them. Numbers stand beside a limit of the same run, because machines "
    "differ: a ratio says more than a time."
)
UNIT = re.compile(r"(?<=\d) (?=(?:%|×|[µmn]?s\b|[kMG]?bit/s|cores\b|[kMG]?B\b|min\b|Services?\b))")
HERMETIC = (
    "Measured in a hermetic kernel, User-Mode Linux: one CPU, and system calls that take ten times as long. Shapes "
    "mean something there, times and rates do not, and none of it may be compared with a native kernel's."
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a chart's legend."""

    text: str
    colour: str
    dash: str = ""
    sign: str = ""
    width: float = 2


@dataclass(frozen=True, slots=True)
class Drawn:
    """A panel on the page."""

    caption: str
    svg: str


@dataclass(frozen=True, slots=True)
class Source:
    """Published figures beside a chart."""

    source: str
    url: str
    year: int
    says: str
    number: int | None
    drawn: str


@dataclass(frozen=True, slots=True)
class Section:
    """A chart on the page."""

    anchor: str
    title: str
    shows: str
    banners: Sequence[str]
    sentences: Sequence[str]
    legend: Sequence[Entry]
    panels: Sequence[Drawn]
    published: Sequence[Source]
    columns: Sequence[Column]
    rows: Sequence[Sequence[Each]]


@dataclass(frozen=True, slots=True)
class Part:
    """What ran on one kernel of one machine."""

    title: str
    short: str
    hermetic: bool
    warning: str
    charts: Sequence[Section]


def write(scales: Sequence[Scale], path: Path, remarks: Sequence[str] = ()) -> None:
    """Write the page of these runs. Raises OSError, and PlumblineError for literature that is wrong."""
    path.write_text(render(scales, remarks), encoding="utf-8")


def render(scales: Sequence[Scale], remarks: Sequence[str] = ()) -> str:
    """The page of these runs."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    published = literature.load()
    parts = groups(scales)
    found = [(group, controls(group)) for group in parts]
    loader = FileSystemLoader(HERE)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["held"] = held
    missing = list(_missing(scales))
    page = {
        "title": _title(scales),
        "subtitle": SUBTITLE,
        "runs": [_run(scale) for scale in scales],
        "banners": [*remarks, *_warnings(parts)],
        "controls": [_control(control, _where(group, parts)) for group, some in found for control in some],
        "harness": [line for scale in scales for line in _harness(scale)],
        "missing": missing,
        "missing_summary": _missing_summary(scales),
        "groups": [_part(place, group, some, published) for place, (group, some) in enumerate(found)],
    }
    return environment.get_template("page.html.jinja").render(
        page=page, css=(HERE / "page.css").read_text(encoding="utf-8")
    )


def held(text: str) -> str:
    """The text with numbers held together with their units, where lines are broken."""
    return UNIT.sub("\N{NO-BREAK SPACE}", text)


def _title(scales: Sequence[Scale]) -> str:
    names = list(dict.fromkeys(scale.mode for scale in scales))
    return f"plumbline scale: {say.listed(names)}" if names else "plumbline scale"


def _run(scale: Scale) -> dict[str, object]:
    kernel = f"kernel {scale.kernel}{', hermetic' if scale.hermetic else ''}"
    lines = (
        f"{scale.date}, {kernel}",
        f"{_cpus(scale)}: {scale.cpu}",
        f"seed {scale.seed}, {say.quantity(scale.duration, 's')} for each measurement",
    )
    return {"system": scale.system, "colour": style.look(scale.mode).name, "lines": lines}


def _warnings(parts: Sequence[Group]) -> list[str]:
    if len(parts) < 2:
        return []
    return ["These runs were not on the same kernel of the same machine, so each has charts of its own."]


def _where(group: Group, parts: Sequence[Group]) -> str:
    """Which kernel's charts are meant, where there are several."""
    return f"({_kind(group)} {group.runs[0].kernel})" if len(parts) > 1 else ""


def _cpus(scale: Scale) -> str:
    return f"{scale.cpus} CPU{'s' if scale.cpus != 1 else ''}"


def _control(control: Control, where: str) -> dict[str, str]:
    return {
        "name": f"{control.name} {where}".rstrip(),
        "verdict": control.verdict,
        "says": control.says,
        "sign": SIGNS[control.verdict],
        "css": control.verdict.replace(" ", "-"),
    }


def _harness(scale: Scale) -> Iterator[str]:
    if scale.harness:
        parts = [_cost(name, value) for name, value in scale.harness.items()]
        yield f"What measuring itself costs (mode {scale.mode}): {', '.join(parts)}."


def _cost(name: str, value: float) -> str:
    """Seconds where the name says so, else a share."""
    seconds = name.removesuffix(" (s)")
    return f"{seconds} {say.quantity(value, 's')}" if seconds != name else f"{name} {say.percent(value)}"


def _missing(scales: Sequence[Scale]) -> Iterator[str]:
    """Cells without a value, one line for each reason of each run's chart."""
    for scale in scales:
        by: dict[tuple[str, str, str], list[Cell]] = {}
        for cell in scale.cells:
            if not cell.is_measured:
                by.setdefault((cell.chart, cell.outcome, cell.reason), []).append(cell)
        for (chart, outcome, reason), cells in by.items():
            where = sorted({cell.services for cell in cells})
            series = [name for name in dict.fromkeys(cell.series for cell in cells) if name]
            of = f" ({', '.join(series)})" if series else ""
            at = say.listed([f"{each:,}" for each in where[:-1]] + [say.services(where[-1])])
            yield f"{scale.mode}, {chart}{of}, at {at}: {outcome}: {reason}"


def _missing_summary(scales: Sequence[Scale]) -> str:
    outcomes = [cell.outcome for scale in scales for cell in scale.cells]
    unfit, left_out = outcomes.count("unfit"), outcomes.count("left out")
    counts = [f"{unfit} unfit"] * bool(unfit) + [f"{left_out} left out"] * bool(left_out)
    return f"Of {len(outcomes)} cells {say.listed(counts)}: why"


def _part(place: int, group: Group, found: Sequence[Control], published: Sequence[Published]) -> Part:
    first = group.runs[0]
    return Part(
        title=f"{_kind(group).capitalize()} {first.kernel}, {_cpus(first)} ({first.cpu})",
        short=f"({_kind(group)} {first.kernel})",
        hermetic=group.hermetic,
        warning=HERMETIC,
        charts=[_section(f"g{place}", group, chart, found, published) for chart in ordered(group.charts)],
    )


def _kind(group: Group) -> str:
    return "hermetic kernel" if group.hermetic else "kernel"


def _section(
    prefix: str, group: Group, chart: Chart, found: Sequence[Control], published: Sequence[Published]
) -> Section:
    drawn = panels(group, chart.id, published)
    told = sentences(group, chart)
    anchor = f"{prefix}-{''.join(one if one.isalnum() else '-' for one in chart.id)}"
    banners = [
        f"The control “{control.name}” does not hold: {control.says}. Do not believe this chart."
        for control in found
        if control.verdict == "does not hold" and control.name in chart.controls
    ]
    cells = group.cells(chart.id)
    columns, rows = table(group, cells)
    return Section(
        anchor=anchor,
        title=chart.title,
        shows=chart.shows,
        banners=banners,
        sentences=told,
        legend=list(_legend(drawn)),
        panels=[
            Drawn(_caption(drawn, panel), charts.draw(panel, f"{anchor}-{number}", " ".join((chart.title, *told))))
            for number, panel in enumerate(drawn)
        ],
        published=[_source(one, drawn) for one in published if one.chart == chart.id],
        columns=columns,
        rows=rows,
    )


def _caption(drawn: Sequence[Panel], panel: Panel) -> str:
    """What a panel is of, where there are several; otherwise the chart's title says it."""
    if panel.series:
        return panel.series
    if len(drawn) == 1 or len(panel.all_series) > 1:
        return ""
    return panel.all_series[0]


def _legend(drawn: Sequence[Panel]) -> Iterator[Entry]:
    """Modes by colour and marker, series by dash, limits, literature, and marks of what is missing."""
    lines = [line for panel in drawn for line in panel.lines]
    for mode, system in dict.fromkeys((line.mode, line.system) for line in lines):
        look = style.look(mode)
        same = [line.system for line in lines if line.mode == mode]
        yield Entry(mode if len(set(same)) == 1 else system, look.name, sign=look.sign)
    several = [panel for panel in drawn if len(panel.all_series) > 1 and panel.has_lines]
    for place, series in enumerate(several[0].all_series if several else ()):
        yield Entry(series, "soft", dash=style.dash(place)[1])
    for label in dict.fromkeys(limit.label for panel in drawn for limit in panel.limits):
        yield Entry(f"limit of the same run: {label}", "limit", dash=style.LIMIT_DASH[1], width=1.5)
    if any(panel.overlays for panel in drawn):
        yield Entry("published, scaled to meet ours", "published", width=1.2)
    every = [*lines, *(line for panel in drawn for line in panel.blank)]
    outcomes = {cell.outcome for line in every for cell in line.cells}
    for outcome, sign in (("unfit", "×"), ("left out", "○")):
        if outcome in outcomes:
            yield Entry(outcome, "soft", sign=sign, width=0)


def _source(one: Published, drawn: Sequence[Panel]) -> Source:
    overlay = next((each for panel in drawn for each in panel.overlays if each.published is one), None)
    drawn_as = ""
    if overlay:
        met = next(iter(overlay.points))
        drawn_as = (
            f"Scaled so that it meets mode {one.mode} at {say.services(met)}: compare its shape, not its height."
        )
    elif one.points:
        drawn_as = f"Not drawn: it is held against mode {one.mode} at two of its numbers of Services or more."
    return Source(one.source, one.url, one.year, one.says, overlay.number if overlay else None, drawn_as)
