"""The two pages of a run: `report.html` without a real pixel, `private/report.html` with them."""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

import synthoma
from synthoma.dataset import Dataset
from synthoma.report import (
    curves,
    data,
    fidelity_more,
    gate,
    health,
    histograms,
    images,
    metrics,
    privacy,
    provenance,
    slides,
    summary,
    training,
    utility,
    volumes,
    words,
)
from synthoma.report.evidence import Evidence, read_evidence
from synthoma.report.facts import Facts, read_facts
from synthoma.report.volume_viewer import volume_viewer
from synthoma.run import Run, write_atomically


def write_report(run: Run, dataset: Dataset | None) -> tuple[Path, Path]:
    """Write both pages from the run's files; returns (public, private).

    Without `dataset` (it is elsewhere, or gone) the parts that need it say so. Raises `SynthomaError` for a damaged file.
    """
    facts = read_facts(run, dataset)
    evidence = read_evidence(facts)
    shared = {
        **_shared_parts(facts),
        **_evidence_parts(facts, evidence),
        "missing_studies": gate.missing_studies(facts, evidence),
    }
    public, private = run.path / "report.html", run.private / "report.html"
    write_atomically(public, render("page.html.j2", {**shared, **_parts(facts, evidence, public=True)}))
    shown = {**shared, **_parts(facts, evidence, public=False), **_private_parts(facts, evidence)}
    write_atomically(private, render("page.html.j2", shown))
    return public, private


def _shared_parts(facts: Facts) -> dict[str, Any]:
    """What both pages show alike; pictures among it are synthetic."""
    animation, no_animation = images.progress_animation(facts)
    return {
        "title": facts.title,
        "description": str(facts.recipe.get("description") or ""),
        "name": str(facts.recipe.get("name") or ""),
        "synthoma_version": synthoma.__version__,
        "sentences": summary.sentences(facts),
        "figures": summary.figures(facts),
        "samples": images.sample_rows(facts),
        "classes_left_out": max(0, len(facts.classes) - images.MOST_CLASSES),
        "volumes": facts.size is not None and len(facts.size) == 3,
        "grids": images.progress_grids(facts),
        "animation": animation,
        "no_animation": no_animation,
        "charts": curves.charts(facts),
        "budget": training.budget(facts),
        "measured": facts.fidelity is not None,
        "spaces": metrics.space_views(facts.fidelity) if facts.fidelity else [],
        "measured_on": _measured_on(facts),
        "environment": provenance.environment(facts),
        "hashes": provenance.hashes(facts),
        "glossary": [
            *metrics.glossary(facts.fidelity, curves.scores_are_probabilities(facts)),
            *fidelity_more.glossary(facts),
        ],
    }


def _evidence_parts(facts: Facts, evidence: Evidence) -> dict[str, Any]:
    """The studies beside fidelity and the gate; None where there is no result of one."""
    return {
        "gate": gate.gate_view(evidence),
        "privacy": privacy.privacy_view(evidence.privacy),
        "utility": utility.utility_view(evidence.utility),
        "more": fidelity_more.more_fidelity(facts, evidence),
    }


def _parts(facts: Facts, evidence: Evidence, public: bool) -> dict[str, Any]:
    """What both pages show, the public one without pseudonyms and paths."""
    warnings = [
        *(words.sentence(item) for item in (facts.training or {}).get("warnings") or []),
        *(words.sentence(item) for item in (facts.fidelity or {}).get("warnings") or []),
        *evidence.outdated,
    ]
    watched = health.health_view(facts, public)
    grave = [one.message for one in watched.findings if one.grave]
    return {
        "public": public,
        "data": data.data_view(facts, public),
        "health": watched,
        "warnings": [*grave, *(words.without_people(line) if public else line for line in warnings)],
        "settings": provenance.settings(facts.recipe, public),
        "viewer": volume_viewer(facts, real=not public),
        "histogram": histograms.histogram(facts, public),
        "beside": [],
        "montage": None,
        "overview": None,
        "neighbours": [],
        "audit_pairs": [],
        "neighbour_space": "",
        "suspects": [],
        "near_duplicates": [],
        "has_dataset": facts.dataset is not None,
    }


def _private_parts(facts: Facts, evidence: Evidence) -> dict[str, Any]:
    """What shows real pixels: for the private page only."""
    return {
        "beside": images.beside_rows(facts),
        "montage": volumes.montage_tile(facts),
        "overview": images.overview(facts.dataset),
        "slides": slides.slides_view(facts.dataset),
        "neighbours": images.neighbour_pairs(facts),
        "audit_pairs": privacy.audit_pairs(facts, evidence.privacy),
        "neighbour_space": str((facts.neighbours or {}).get("space", "")),
        "suspects": images.suspects(facts.dataset),
        "near_duplicates": images.near_duplicates(facts.dataset),
    }


def _measured_on(facts: Facts) -> str:
    counts = (facts.fidelity or {}).get("counts")
    if not counts:
        return ""
    return (
        f"{words.plural(counts['synthetic'], 'synthetic image')} against {words.plural(counts['test'], 'real image')} of "
        f"{words.plural(counts['groups_test'], 'patient or group', 'patients or groups')} that training never saw."
    )


def render(template: str, parts: dict[str, Any]) -> str:
    """A page from a template of this package; all text in `parts` is escaped."""
    return _environment().get_template(template).render(parts)


@cache
def _environment() -> Environment:
    """Templates with escaping on and undefined names as errors."""
    loader = PackageLoader("synthoma.report")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
