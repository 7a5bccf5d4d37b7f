"""The sections of the model card that the studies beside fidelity and the gate fill."""

from collections.abc import Sequence

from synthoma.report.evidence import Evidence
from synthoma.report.facts import Facts
from synthoma.report.fidelity_more import MoreFidelity, more_fidelity
from synthoma.report.gate import gate_view
from synthoma.report.markdown import code, table, text
from synthoma.report.metrics import ClassTable, MetricRow, SpaceView
from synthoma.report.privacy import ControlledRow, privacy_view
from synthoma.report.utility import utility_view

METRICS_HEAD = ("Metric", "Better", "Value", "Interval", "Floor", "Interval of the floor")


def gate_section(evidence: Evidence) -> str | None:
    """The verdict, rule by rule; None where the gate was not asked."""
    view = gate_view(evidence)
    if view is None:
        return None
    parts = [f"**{view.headline}.** {view.sentence}", *(text(note) for note in view.notes)]
    if view.rules:
        parts.append(table(("Rule", "Verdict", "Why"), [(text(r.title), r.verdict, text(r.why)) for r in view.rules]))
    return "## Gate\n\n" + "\n\n".join(parts)


def study_sections(facts: Facts, evidence: Evidence) -> list[str]:
    """Appearance, anatomy, subgroups, detector, privacy and utility, as far as they were studied."""
    more = more_fidelity(facts, evidence)
    found = [
        _appearance(more),
        _anatomy(more),
        _subgroups(more),
        _detector(more),
        _privacy(evidence),
        _utility(evidence),
    ]
    return [section for section in found if section]


def metric_rows(rows: Sequence[MetricRow]) -> list[tuple[str, ...]]:
    """Lines under `METRICS_HEAD`."""
    return [
        (row.label, row.direction, row.cell.value, row.cell.interval, row.cell.floor, row.cell.floor_interval)
        for row in rows
    ]


def class_table(found: ClassTable, head: str) -> str:
    """Value, interval and floor in one cell: never a bare number."""
    rows = [
        (
            text(name),
            *(
                f"withheld ({cell.footnote})" if cell.reason else f"{cell.value} [{cell.interval}] ({cell.floor})"
                for cell in cells
            ),
        )
        for name, cells in found.rows
    ]
    notes = [f"{mark}: {text(reason)}." for mark, reason in found.footnotes]
    columns = (f"{head}: value [interval] (floor)", *(label for label, _ in found.columns))
    return "\n\n".join([table(columns, rows), *notes])


def _space(space: SpaceView) -> list[str]:
    parts = [f"Protocol `{code(space.protocol)}`."]
    if space.rows:
        parts.append(table(METRICS_HEAD, metric_rows(space.rows)))
    return parts + [f"Withheld: {text(labels)} ({text(reason)})." for labels, reason in space.withheld]


def _appearance(more: MoreFidelity) -> str | None:
    if more.appearance is None:
        return None
    return "### Appearance\n\n" + "\n\n".join(_space(more.appearance))


def _anatomy(more: MoreFidelity) -> str | None:
    anatomy = more.anatomy
    if anatomy is None:
        return None
    parts = ["Kolmogorov-Smirnov distances of what one segmenter measures in synthetic and real cubes alike."]
    parts += [text(anatomy.found)] if anatomy.found else []
    parts += [f"Withheld: {text(anatomy.reason)}."] if anatomy.reason else []
    parts += _space(anatomy.space)
    parts.append(
        "The segmenter itself: " + "; ".join(f"{text(term)} {text(value)}" for term, value in anatomy.error) + "."
    )
    return "## Anatomy\n\n" + "\n\n".join(parts)


def _subgroups(more: MoreFidelity) -> str | None:
    found = more.subgroups
    if found is None:
        return None
    if found.reason or not found.tables:
        return f"## Subgroups\n\n{text(f'Withheld: {found.reason}.' if found.reason else 'The records tell of none.')}"
    tables = [class_table(one, f"By {text(column)}") for column, one in found.tables if one.columns]
    return "## Subgroups\n\n" + "\n\n".join([f"Protocol `{code(found.protocol)}`.", *tables])


def _detector(more: MoreFidelity) -> str | None:
    if more.detector is None:
        return None
    told = (
        "How well a small classifier tells its images from real ones (0.5: chance). It is shipped beside the weights: "
        "`synthoma detect MODEL FOLDER` looks for these images in a folder."
    )
    return "### Detector\n\n" + "\n\n".join([told, *_space(more.detector.space)])


def _privacy(evidence: Evidence) -> str | None:
    view = privacy_view(evidence.privacy)
    if view is None:
        return None
    parts = [text(view.sentence), f"Protocol `{code(view.protocol)}`."]
    parts.append("\n".join(f"- {text(term)}: {text(value)}" for term, value in view.copies))
    parts.append(
        table(
            ("Figure", "Better", "Value", "Interval", "Control", "Interval of the control", "AUC less control"),
            [_controlled(row) for row in (*view.closeness, *view.attacks)],
        )
    )
    parts += [f"- {text(line)}" for line in view.warnings]
    return "## Privacy\n\n" + "\n\n".join(parts)


def _controlled(row: ControlledRow) -> tuple[str, ...]:
    if row.reason:
        return (text(row.label), row.direction, f"withheld: {text(row.reason)}", "", "", "", "")
    return (text(row.label), row.direction, row.value, row.interval, row.control, row.control_interval, row.excess)


def _utility(evidence: Evidence) -> str | None:
    view = utility_view(evidence.utility)
    if view is None:
        return None
    parts = [text(view.sentence), f"Protocol `{code(view.protocol)}`."]
    parts += [f"Withheld: {text(view.withheld)}."] if view.withheld else []
    for forest in view.forests:
        title = f"{forest.title} ({forest.note})" if forest.note else forest.title
        rows = [(text(line.title), line.change or "withheld", line.verdict, text(line.why)) for line in forest.lines]
        parts += [f"### {text(title)}", table(("Against real alone", "Change (95 %)", "Verdict", "Why"), rows)]
    if view.agreement is not None:
        shown = [(text(name), text(synthetic), text(real)) for name, synthetic, real in view.agreement.rows]
        parts += ["### Do synthetic images show their class?", text(view.agreement.sentence)]
        parts += [table(("Taken for their class (95 %)", "Synthetic images", "Real test images"), shown)]
    parts += [text(note) for note in view.notes]
    return "## Utility\n\n" + "\n\n".join(parts)
