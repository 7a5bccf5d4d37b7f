"""The null study's result file as the tables of docs/null_study.md."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Result = Mapping[str, Any]
_METRICS = (("kid", "KID"), ("kid_above_floor", "KID less floor"), ("fd", "FD"), ("attack_auc", "attack AUC"))


def tables(result: Result) -> str:
    """Copies, intervals, permutation p, and the two AUCs, each as a Markdown table."""
    parts = result["parts"]
    made = [
        _copies(parts.get("copies", {})),
        _intervals(parts.get("intervals", {})),
        _permutations(parts.get("intervals", {})),
        _aucs({**parts.get("detector", {}), **parts.get("utility", {})}),
    ]
    return "\n\n".join("\n".join(_markdown(rows)) for rows in made if len(rows) > 1)


def _copies(sets: Result) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [
        (
            "set",
            "runs that cry copy",
            "upper 95 % limit",
            "images accused",
            "different pairs",
            "recall: flipped, brightened, JPEG",
        )
    ]
    for name, found in sets.items():
        recall = found["mean_recall_of_copies_made_on_purpose"]
        rows.append(
            (
                name,
                f"{found['cry_copy']} of {found['repetitions']}",
                f"{found['upper_95']:.1%}",
                f"{found['images_accused']} of {found['images_posing']}",
                str(found["distinct_pairs_accused"]),
                ", ".join(f"{recall[kind]:.2f}" for kind in ("flipped", "brightened", "jpeg")),
            )
        )
    return rows


def _intervals(sets: Result) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [
        (
            "set",
            "figure",
            "covered: equality, shift, far",
            "above the null",
            "median width",
            "of the yardstick",
            "of the ideal",
        )
    ]
    for name, found in sets.items():
        arms = found["arms"]
        for metric, title in _METRICS:
            each = [arm[metric] for arm in arms.values()]
            yardsticks = [f"{one['median_width_over_yardstick']:.2f}" for one in each if "yardstick_above_null" in one]
            rows.append(
                (
                    name,
                    title,
                    ", ".join(str(one["covered"]) for one in each),
                    ", ".join(str(one["above_null"]) for one in each),
                    ", ".join(f"{one['median_width']:.3g}" for one in each),
                    ", ".join(yardsticks) or "–",
                    ", ".join(f"{one['median_width_over_ideal']:.2f}" for one in each),
                )
            )
    return rows


def _permutations(sets: Result) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [
        ("set", "posing", "uniform (Kolmogorov, Smirnov)", "below 0.05 at equality", "at the shift", "far")
    ]
    for name, found in sets.items():
        for kind in ("by_patients", "by_images"):
            each = [arm[f"permutation_{kind}"] for arm in found["arms"].values()]
            shares = [str(one["below_0.05"]) for one in each]
            rows.append((name, kind.replace("_", " "), f"p = {each[0]['uniform_ks_p']:.2g}", *shares))
    return rows


def _aucs(sets: Result) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [("set", "figure", "covered: equality, shift", "above the null", "median width")]
    for name, found in sets.items():
        for metric in found["arms"]["equality"]:
            each = [arm[metric] for arm in found["arms"].values()]
            columns = (("covered", ""), ("above_null", ""), ("median_width", ".2f"))
            rows.append(
                (
                    name,
                    metric.replace("_", " "),
                    *(", ".join(format(one[key], form) for one in each) for key, form in columns),
                )
            )
    return rows


def _markdown(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    head, *body = rows
    yield f"| {' | '.join(head)} |"
    yield "|" + " --- |" * len(head)
    for row in body:
        yield f"| {' | '.join(row)} |"
