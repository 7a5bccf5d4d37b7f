"""Tables of docs/utility_studies.md from results/utility.json: python benchmarks/utility_table.py [--set NAME]"""

import argparse
from collections.abc import Mapping
from typing import Any

from results import FOLDER
from synthoma.run import read_json

Told = Mapping[str, Any]
SMALLEST = 3  # classes with fewest images, which have a table of their own; the file has all


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", help="one set; left out, all of them")
    wanted = parser.parse_args().set
    for name, told in read_json(FOLDER / "utility.json")["sets"].items():
        if wanted in (None, name):
            print(f"## {name}\n\n{tables(told)}\n")


def tables(told: Told) -> str:
    """All tables of a study."""
    if "arms" not in told:
        return f"No study: {told['withheld']}."
    return "\n\n".join([arms_table(told), classes_table(told), agreement_table(told["agreement"])])


def arms_table(told: Told) -> str:
    """AUC, balanced accuracy and the change of AUC of each arm, with its verdict."""
    rows = []
    for arm in told["arms"]:
        if "scores" not in arm:
            rows.append([arm["title"], "", f"withheld: {arm['reason']}", "", "", ""])
            continue
        change = told_change(arm) if "change" in arm else ["", ""]
        images = sum(arm["images"].values())
        scores = [figure(arm["scores"][score]) for score in ("auc", "balanced_accuracy")]
        rows.append([arm["title"], f"{images}", *scores, *change])
    return table(["training images", "n", "AUC", "balanced accuracy", "change of AUC", "verdict"], rows)


def classes_table(told: Told) -> str:
    """Change of the AUC of the smallest classes, each against the rest, by arm."""
    counts = (told["counts"].get("train") or told["counts"]["real"])["classes"]
    judged = [name for name in told["classes"] if name not in told["withheld_classes"]]
    smallest = sorted(judged, key=lambda name: counts[name])[:SMALLEST]
    rows = []
    for arm in told["arms"]:
        if "change" in arm:
            cells = [", ".join(told_change(arm["classes"][name])) for name in smallest]
        elif "scores" in arm:
            cells = [f"AUC {figure(arm['classes'][name]['auc'])}" for name in smallest]
        else:
            continue
        rows.append([arm["title"], *cells])
    return table(["change of AUC", *(f"{spoken(name)} ({counts[name]})" for name in smallest)], rows)


def agreement_table(agreement: Told) -> str:
    """Label agreement beside its ceiling."""
    pairs = {"mean of the classes": agreement["all"], **agreement["classes"]}
    rows = [[spoken(name), figure(pair["synthetic"]), figure(pair["real"])] for name, pair in pairs.items()]
    return table(["taken for their class", "synthetic images", "real test images"], rows)


def told_change(part: Told) -> list[str]:
    """Change of AUC with its interval, and the verdict."""
    change = part["change"]["auc"]
    if change["kind"] == "withheld":
        return [f"withheld: {change['reason']}", part["verdict"]["verdict"]]
    return [
        f"{change['value']:+.3f} ({change['low']:+.3f} to {change['high']:+.3f})",
        part["verdict"]["verdict"],
    ]


def figure(value: Told) -> str:
    """A score with its interval."""
    if value["kind"] == "withheld":
        return f"withheld: {value['reason']}"
    return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"


def spoken(name: str) -> str:
    return name.replace("_", " ")


def table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
