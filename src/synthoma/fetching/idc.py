"""CT series from the Imaging Data Commons, chosen by patient or series, by idc-index (extra: fetch)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from synthoma.errors import MissingExtraError
from synthoma.fetching.entries import Idc
from synthoma.fetching.failure import FetchError

FOLDER = "dicom"  # below the destination
_UID = re.compile(r"[0-9]+(\.[0-9]+){2,}")


class Rows(Protocol):
    """A pandas data frame, as far as it is used here."""

    def to_dict(self, orient: str) -> list[dict[str, Any]]: ...


class IdcClient(Protocol):
    """`idc_index.IDCClient`, as far as it is used here."""

    def sql_query(self, sql_query: str) -> Rows: ...

    def download_from_selection(
        self,
        downloadDir: str,
        *,
        seriesInstanceUID: list[str],
        quiet: bool,
        show_progress_bar: bool,
        use_s5cmd_sync: bool,
    ) -> None: ...


@dataclass(frozen=True)
class Series:
    """A series as the index describes it."""

    patient: str
    uid: str
    files: int
    bytes: int


def open_client() -> IdcClient:
    """The client of idc-index; its index comes with the package. Raises `MissingExtraError` without it."""
    try:
        from idc_index import IDCClient
    except ImportError as error:
        raise MissingExtraError("this data set needs idc-index: pip install 'synthoma[fetch]'.") from error
    try:
        client: IdcClient = IDCClient()
    except Exception as error:  # of many kinds: no s5cmd, an index that cannot be read
        raise FetchError(f"idc-index does not start: {error}.") from error
    return client


def choose_series(
    client: IdcClient, means: Idc, patients: int | None = None, uids: Sequence[str] = ()
) -> tuple[Series, ...]:
    """CT series of the collection's own (no derived objects), sorted by patient and UID.

    patients: the first so many in the order of their identifiers, all of their series. uids: just these series.
    Raises `FetchError` for a UID that is none or not in the collection, and for both kinds of choice at once.
    """
    if patients is not None and uids:
        raise FetchError("--patients and --series choose in two ways; give one of them.")
    for uid in uids:
        if not _UID.fullmatch(uid):
            raise FetchError(f"--series {uid}: not a series instance UID, which is digits and dots.")
    rows = client.sql_query(
        "SELECT PatientID, SeriesInstanceUID, instanceCount, series_size_MB FROM index "  # noqa: S608 - a constant of ours
        f"WHERE collection_id = '{means.collection}' AND Modality = 'CT' AND analysis_result_id IS NULL"
    ).to_dict("records")
    found = sorted(
        (
            Series(
                str(row["PatientID"]),
                str(row["SeriesInstanceUID"]),
                int(row["instanceCount"]),
                round(float(row["series_size_MB"]) * 1e6),
            )
            for row in rows
        ),
        key=lambda series: (series.patient, series.uid),
    )
    if not found:
        raise FetchError(f"this version of idc-index knows no CT series of '{means.collection}'; update idc-index.")
    if uids:
        known = {series.uid: series for series in found}
        absent = [uid for uid in uids if uid not in known]
        if absent:
            raise FetchError(f"--series {absent[0]} is no CT series of '{means.collection}' ({len(absent)} such).")
        return tuple(series for series in found if series.uid in set(uids))
    if patients is not None:
        first = sorted({series.patient for series in found})[:patients]
        return tuple(series for series in found if series.patient in set(first))
    return tuple(found)


def fetch_series(client: IdcClient, chosen: Sequence[Series], out: Path, show_progress: bool) -> None:
    """Download into `out/dicom/COLLECTION/PATIENT/STUDY/CT_SERIES`; files that are there already are not sent again.

    idc-index compares no sums, so the number of files and the bytes of each series are held against its index.
    Raises `FetchError` for what does not come, or not whole.
    """
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    missing = incomplete(chosen, folder)
    if not missing:
        return
    try:
        client.download_from_selection(
            str(folder),
            seriesInstanceUID=[series.uid for series in missing],
            quiet=True,
            show_progress_bar=show_progress,
            use_s5cmd_sync=True,
        )
    except Exception as error:  # of many kinds, from the client and from s5cmd below it
        raise FetchError(f"idc-index: {error}. The same command goes on with what is missing.") from error
    missing = incomplete(chosen, folder)
    if missing:
        raise FetchError(
            f"{len(missing)} of {len(chosen)} series did not arrive whole (is there a network?). "
            "The same command goes on with these."
        )


def incomplete(chosen: Sequence[Series], folder: Path) -> list[Series]:
    """The series whose folder below `folder` lacks files or bytes."""
    places = {place.name.rpartition("_")[2]: place for place in folder.glob("*/*/*/*") if place.is_dir()}
    return [series for series in chosen if not _is_whole(series, places.get(series.uid))]


def _is_whole(series: Series, place: Path | None) -> bool:
    sizes = [] if place is None else [file.stat().st_size for file in place.iterdir() if file.suffix == ".dcm"]
    return len(sizes) == series.files and abs(sum(sizes) - series.bytes) <= 1  # the index rounds to megabytes in float
