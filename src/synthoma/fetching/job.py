"""A fetch from its plan, which a person agrees to, to a folder that `synthoma` reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthoma.errors import Interrupted, nearest_name_hint
from synthoma.fetching import isic, kaggle
from synthoma.fetching.archives import unpack
from synthoma.fetching.conditions import Conditions, in_words, require_space
from synthoma.fetching.download import fetch_file
from synthoma.fetching.entries import Entry, Http, Idc, Kaggle, RemoteFile
from synthoma.fetching.failure import FetchError
from synthoma.fetching.idc import FOLDER, IdcClient, Series, choose_series, fetch_series, incomplete, open_client
from synthoma.fetching.ledger import Ledger, now, write_terms
from synthoma.run import Run, file_sha256


@dataclass(frozen=True)
class Plan:
    """What would be fetched. needed: bytes on disk, of all that is not there yet; about, where sizes are not known."""

    entry: Entry
    out: Path
    files: tuple[RemoteFile, ...]
    series: tuple[Series, ...]
    needed: int
    client: IdcClient | None = None

    def describe(self, free: int) -> list[str]:
        """What a person should know before they agree. free: bytes on the disk."""
        entry = self.entry
        lines = [
            f"{entry.title}",
            f"  licence      {entry.licence or 'not known: read ' + entry.homepage}",
            f"  citation     {entry.citation}",
            f"  from         {entry.way}; {entry.homepage}",
            f"  size         {self._size()}",
            f"  goes to      {self.out.absolute()} ({in_words(free)} free)",
            f"  sums         {self._sums()}",
        ]
        if self.needed > free:
            lines.append(f"  space        {in_words(self.needed)} are needed, more than is free")
        if isinstance(entry.means, Idc) and entry.means.by_hand:
            lines.append(f"  by hand      {entry.means.by_hand.replace('DIR', str(self.out))}")
        return lines

    def _size(self) -> str:
        if self.series:
            patients = len({series.patient for series in self.series})
            return f"{in_words(self.needed)} to come: {len(self.series):,} CT series of {patients:,} patient(s)"
        return f"{self.entry.size}; {len(self.files)} file(s)" if self.files else self.entry.size

    def _sums(self) -> str:
        if isinstance(self.entry.means, Kaggle):
            return "none published; the archive's own checks"
        words = ["of each series: number of files and bytes, by the index of idc-index"] if self.series else []
        if any(file.checksum for file in self.files):
            words.append("compared with those in the catalogue")
            if not self.entry.is_data:
                words += [str(file.checksum) for file in self.files]
        if any(file.zenodo for file in self.files):
            words.append("compared with those that Zenodo states when they are fetched")
        if any(not file.checksum and not file.zenodo for file in self.files):
            words.append("none published for some files: length and the archive's own checks; what arrives is recorded")
        return "; ".join(words)


def plan_fetch(
    entry: Entry,
    out: Path,
    *,
    only: Sequence[str] = (),
    patients: int | None = None,
    series: Sequence[str] = (),
    client: IdcClient | None = None,
) -> Plan:
    """What `fetch` would do; nothing is written and no server is asked.

    only: names of files, for sets of several. patients, series: as in `choose_series`, for collections of CT series.
    client: that of idc-index by default. Raises `FetchError` for a choice that the set does not offer, and for a folder
    that holds something else; `MissingExtraError` without idc-index where it is needed.
    """
    Ledger.open(out, entry)
    means = entry.means
    if (patients is not None or series) and not isinstance(means, Idc):
        raise FetchError(f"--patients and --series choose CT series; {entry.name} has none to choose from.")
    if only and not isinstance(means, Http):
        raise FetchError(f"--only chooses files; {entry.name} is not fetched by file.")
    match means:
        case Http(files):
            chosen = _only(entry, files, only)
            return Plan(entry, out, chosen, (), entry.space * len(chosen) // len(files))
        case Idc():
            client = client or open_client()
            wanted = choose_series(client, means, patients, series)
            missing = incomplete(wanted, out / FOLDER)
            return Plan(entry, out, means.extras, wanted, sum(series.bytes for series in missing), client)
        case Kaggle():
            kaggle.require_command(entry, out)
            return Plan(entry, out, (), (), entry.space)


def _only(entry: Entry, files: tuple[RemoteFile, ...], only: Sequence[str]) -> tuple[RemoteFile, ...]:
    names = [file.name for file in files]
    for name in only:
        if name not in names:
            hint = nearest_name_hint(name, names) or "."
            raise FetchError(f"{entry.name} has no file '{name}'{hint} It has: {', '.join(names)}.")
    return tuple(file for file in files if not only or file.name in only)


def fetch(
    plan: Plan,
    *,
    keep_archives: bool = False,
    conditions: Conditions | None = None,
    run: kaggle.Run = kaggle.run_command,
    show_progress: bool = True,
) -> dict[str, Any]:
    """Fetch what is planned, unpack archives, and write fetched.json and synthoma-data.yaml. Returns fetched.json.

    What an earlier call brought is not fetched again. Raises `FetchError` (the message says how to go on),
    `Interrupted` on Ctrl-C, `TrainingError` where another process fetches into the folder.
    """
    conditions = conditions or Conditions()
    try:
        with Run(plan.out).locked():
            ledger = Ledger.open(plan.out, plan.entry)
            ledger.content["finished"] = None
            ledger.write()
            if plan.entry.is_data:
                write_terms(plan.out, plan.entry)
            _fetch_files(plan, ledger, keep_archives, conditions)
            if plan.client is not None:
                _fetch_series(plan, plan.client, ledger, conditions, show_progress)
            if isinstance(plan.entry.means, Kaggle):
                _fetch_from_kaggle(plan, plan.entry.means, ledger, keep_archives, conditions, run)
            if plan.entry.name == "isic" and all(ledger.has(file) for file in _all_files(plan.entry)):
                isic.write_labels(plan.out)
            ledger.content["finished"] = now()
            ledger.write()
    except KeyboardInterrupt as stop:
        raise Interrupted("Stopped. What has arrived is kept; the same command goes on from there.") from stop
    return ledger.content


def _all_files(entry: Entry) -> tuple[RemoteFile, ...]:
    return entry.means.files if isinstance(entry.means, Http) else ()


def _fetch_files(plan: Plan, ledger: Ledger, keep_archives: bool, conditions: Conditions) -> None:
    for remote in plan.files:
        folder = plan.out / remote.folder
        if not ledger.has(remote):
            ledger.add(fetch_file(remote, folder, conditions))
        if remote.is_archive and not ledger.has_unpacked(remote):
            _unpack(remote, plan, ledger, keep_archives, conditions)


def _unpack(remote: RemoteFile, plan: Plan, ledger: Ledger, keep: bool, conditions: Conditions) -> None:
    archive = plan.out / remote.place
    count = unpack(archive, archive.parent, conditions.free, conditions.progress)
    ledger.note_unpacked(remote, count)
    if not keep:
        archive.unlink()


def _fetch_series(plan: Plan, client: IdcClient, ledger: Ledger, conditions: Conditions, show_progress: bool) -> None:
    require_space(plan.out, plan.needed, conditions.free)
    fetch_series(client, plan.series, plan.out, show_progress)
    known = {row["series"]: row for row in ledger.content["series"]}
    for series in plan.series:
        known[series.uid] = {
            "patient": series.patient,
            "series": series.uid,
            "files": series.files,
            "bytes": series.bytes,
        }
    ledger.content["series"] = sorted(known.values(), key=lambda row: (row["patient"], row["series"]))


def _fetch_from_kaggle(
    plan: Plan, means: Kaggle, ledger: Ledger, keep_archives: bool, conditions: Conditions, run: kaggle.Run
) -> None:
    remote = RemoteFile(kaggle.archive_name(means), plan.entry.homepage)
    if not ledger.has(remote):
        require_space(plan.out, plan.needed, conditions.free)
        archive = kaggle.fetch_archive(plan.entry, means, plan.out, run)
        ledger.add(
            {
                "file": remote.place,
                "url": remote.url,
                "bytes": archive.stat().st_size,
                "sha256": file_sha256(archive),
                "compared_with": None,
                "sum_from": None,
            }
        )
    if not ledger.has_unpacked(remote):
        _unpack(remote, plan, ledger, keep_archives, conditions)
