"""The null study: how often is the evidence wrong where the truth is known? Real images pose as synthetic ones.

    copies      held-out real patients pose as synthetic: in how many runs does the audit cry copy, with none planted?
    intervals   KID, FD, the difference from the floor, permutation p, and the AUC of membership attacks
    detector    AUC of the detector that tells synthetic images from real ones
    utility     AUC, and change of AUC, of the utility study, on drawn scores

Each part is repeated with other patients, at equality and at a known shift. One line a repetition is kept in the scratch
folder: a run that was stopped goes on where it was, and lines of other code are made anew. The result file is written from
all lines that there are.

    python benchmarks/null_study.py --data FOLDER --work SCRATCH                                # everything
    python benchmarks/null_study.py --data FOLDER --work SCRATCH --part copies --sets pap_smear # one of it
    python benchmarks/null_study.py --work SCRATCH --summary                                    # the result file anew
    python benchmarks/null_study.py --work SCRATCH --table                                      # the tables of the docs

FOLDER holds lung_histology, pap_smear and skin9. One thread: OMP_NUM_THREADS=1.
"""

import argparse
import ast
import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import null_copies
import null_detector
import null_intervals
import null_utility
from null_populations import PHANTOMS, REAL, Population, open_population
from null_table import tables
from results import FOLDER, HERE, header, write_result
from synthoma.run import read_json

RESULT = FOLDER / "null_study.json"
DRAWN = "drawn"  # scores that come from no images
SETS = (*REAL, PHANTOMS)
PACKAGE = HERE.parent / "src" / "synthoma"
Row = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """repeat: one repetition; summarise: all of one set; truth: what is computed once for a set and kept with it, or None.

    code: files whose change makes older repetitions worthless.
    """

    repeat: Callable[[Any, int], Row]
    summarise: Callable[..., dict[str, Any]]
    code: Sequence[str]
    sets: Sequence[str] = SETS
    truth: Callable[[Population], dict[str, Any]] | None = None

    @functools.cached_property
    def key(self) -> str:
        """A hash of the code as it was when the script began, without comments and docstrings."""
        digest = hashlib.sha256()
        for pattern in self.code:
            folder, _, name = pattern.rpartition("/")
            for file in sorted((PACKAGE / folder if folder else HERE).glob(name)):
                digest.update(what_it_does(file.read_text()).encode())
        return digest.hexdigest()[:12]


PARTS = {
    "copies": Part(
        null_copies.repeat,
        null_copies.summarise,
        ("null_copies.py", "evaluation/privacy/*.py", "metrics/similarity.py", "metrics/correlation.py"),
    ),
    "intervals": Part(
        null_intervals.repeat,
        null_intervals.summarise,
        (
            "null_intervals.py",
            "null_populations.py",
            *(f"metrics/{name}.py" for name in ("estimation", "resampling", "samples", "pair", "kid", "frechet")),
            *(f"metrics/{name}.py" for name in ("nearest", "permutation", "membership")),
        ),
        truth=null_intervals.truth,
    ),
    "detector": Part(
        null_detector.repeat,
        null_detector.summarise,
        ("null_detector.py", "null_populations.py", "evaluation/detector.py"),
    ),
    "utility": Part(
        null_utility.repeat,
        null_utility.summarise,
        ("null_utility.py", "evaluation/utility/scores.py", "evaluation/utility/statistics.py"),
        sets=(DRAWN,),
    ),
}


def main() -> None:
    arguments = parse()
    torch.set_num_threads(1)
    if arguments.table:
        print(tables(read_json(RESULT)))
        return
    for part in PARTS.values():
        _ = part.key
    arguments.work.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + 60 * arguments.minutes
    for name in [] if arguments.summary else arguments.part:
        for which in arguments.sets:
            if which in PARTS[name].sets:
                run_part(name, which, arguments, until)
    write_all(arguments.work)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("SYNTHOMA_DATA")
    parser.add_argument("--data", type=Path, default=default, help="else $SYNTHOMA_DATA")
    parser.add_argument("--work", type=Path, required=True, help="scratch: prepared images, one line a repetition")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--sets", nargs="+", choices=(*SETS, DRAWN), default=[*SETS, DRAWN])
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many, to go on another time")
    parser.add_argument("--table", action="store_true", help="only print the result file as tables")
    parser.add_argument("--summary", action="store_true", help="only write the result file from what was kept")
    return parser.parse_args()


def run_part(name: str, which: str, arguments: argparse.Namespace, until: float) -> None:
    """The repetitions of a part on a set that are missing."""
    part, file = PARTS[name], lines_file(arguments.work, name, which)
    rows = read_lines(file, part.key)
    due = [number for number in range(arguments.repetitions) if number not in {row["repetition"] for row in rows}]
    if not due or time.monotonic() > until:
        return
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    population = None if which == DRAWN else open_population(which, arguments.data, arguments.work)
    kept = facts_file(arguments.work, name, which)
    if population is not None and not (kept.exists() and read_json(kept)["key"] == part.key):
        facts = population.facts() | ({"truth": part.truth(population)} if part.truth else {})
        kept.write_text(json.dumps({"key": part.key, "population": facts}, indent=1))
    start, processor = time.monotonic(), time.process_time()
    for count, number in enumerate(due, 1):
        row = {"repetition": number, "key": part.key, **part.repeat(population, number)}
        with file.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        each = (time.monotonic() - start) / count
        if count % 10 == 0 or count in (1, len(due)):
            left = each * (len(due) - count) / 60
            seconds = (time.process_time() - processor) / count
            print(
                f"{name} {which}: {count} of {len(due)}, {seconds:.2f} processor s each, {left:.1f} minutes left",
                flush=True,
            )
        if time.monotonic() > until:
            print(f"{name} {which}: stopped after {arguments.minutes:g} minutes; run it again to go on.")
            return


def write_all(work: Path) -> None:
    """The result file from all lines of today's code; parts and sets with fewer than two stay as they were, and say so."""
    known = read_json(RESULT)["parts"] if RESULT.exists() else {}
    earlier = {
        name: {which: {**told, "earlier_code": True} for which, told in sets.items()} for name, sets in known.items()
    }
    result: dict[str, Any] = {**header("null_study"), "parts": earlier}
    for name, part in PARTS.items():
        for which in part.sets:
            rows = read_lines(lines_file(work, name, which), part.key)
            if len(rows) < 2:  # one alone has no spread
                continue
            kept = facts_file(work, name, which)
            facts: Mapping[str, Any] = read_json(kept)["population"] if kept.exists() else {}
            if part.truth and "truth" not in facts:
                continue
            given = (facts["truth"],) if part.truth else ()
            summary = part.summarise(rows, *given)
            result["parts"].setdefault(name, {})[which] = {"code": part.key, "population": facts, **summary}
    write_result(RESULT, result)


def what_it_does(code: str) -> str:
    """The syntax tree of Python code without its docstrings."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


def lines_file(work: Path, name: str, which: str) -> Path:
    return work / f"null-{name}-{which}.jsonl"


def facts_file(work: Path, name: str, which: str) -> Path:
    return work / f"null-{name}-{which}.json"


def read_lines(file: Path, key: str) -> list[Row]:
    """The repetitions that were kept, of this code only, in order; a line that was cut by a kill is left out."""
    rows = []
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if row.get("key") == key:
            rows.append(row)
    return sorted(rows, key=lambda row: row["repetition"])


if __name__ == "__main__":
    main()
