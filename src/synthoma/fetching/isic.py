"""The labels of ISIC 2018 task 3, from its one-hot table and its lesion table to a table that `synthoma` reads."""

import csv
from pathlib import Path

from synthoma.fetching.failure import FetchError
from synthoma.run import write_atomically

TABLE = "labels.csv"
# Columns of the challenge's ground truth (Tschandl et al. 2018, table 3).
CLASSES = {
    "MEL": "melanoma",
    "NV": "nevus",
    "BCC": "basal_cell_carcinoma",
    "AKIEC": "actinic_keratosis",
    "BKL": "benign_keratosis",
    "DF": "dermatofibroma",
    "VASC": "vascular_lesion",
}
_IMAGES = "ISIC2018_Task3_Training_Input"
_TRUTH = "ISIC2018_Task3_Training_GroundTruth"
_LESIONS = "ISIC2018_Task3_Training_LesionGroupings.csv"


def write_labels(folder: Path) -> int:
    """Write labels.csv (file, label, group: photographs of one lesion belong together). Returns the number of rows.

    Raises `FetchError` where the tables are not as the challenge publishes them, or do not go together.
    """
    truth = _rows(folder / _TRUTH / f"{_TRUTH}.csv", {"image", *CLASSES})
    lesions = {row["image"]: row["lesion_id"] for row in _rows(folder / _LESIONS, {"image", "lesion_id"})}
    lines = ["file,label,group"]
    for row in truth:
        named = [name for column, name in CLASSES.items() if float(row[column] or 0) == 1]
        if len(named) != 1 or row["image"] not in lesions:
            raise FetchError(f"{folder / _TRUTH}: a photograph has not one class, or no lesion in {_LESIONS}.")
        lines.append(f"{_IMAGES}/{row['image']}.jpg,{named[0]},{lesions[row['image']]}")
    write_atomically(folder / TABLE, "\n".join(lines) + "\n")
    return len(truth)


def _rows(file: Path, needed: set[str]) -> list[dict[str, str]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.DictReader(opened)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FetchError(f"{file} cannot be read as a table.") from error
    absent = needed - set(reader.fieldnames or ())
    if absent or not rows:
        raise FetchError(f"{file} has no column {', '.join(sorted(absent))}." if absent else f"{file} has no rows.")
    return rows
