"""ZIP archives from elsewhere, unpacked without trusting them."""

import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from synthoma.fetching.conditions import Progress, require_space
from synthoma.fetching.failure import FetchError

MAX_MEMBERS = 1_000_000
# Uncompressed bytes to packed ones: CT reaches 3, masks 100, XML 20; bombs 1,000 and more.
MAX_RATIO = 300
_SMALL = 1 << 20  # what is smaller than this unpacked is no bomb, whatever its ratio


def unpack(archive: Path, folder: Path, free: Callable[[Path], int], progress: Progress) -> int:
    """Unpack a ZIP archive into `folder`; files of the same name are replaced. Returns the number of files.

    Everything is looked at before anything is written. Each file is written aside and renamed when its CRC is right.
    Raises `FetchError`: no ZIP, damaged, encrypted, a packing that Python does not read, a name that leads out of the
    folder, a link, far larger unpacked than packed, no space.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            places = _checked(archive, members)
            require_space(folder, sum(member.file_size for member in members), free)
            for done, (member, place) in enumerate(zip(members, places, strict=True), start=1):
                _write(opened, member, folder / place)
                progress(f"Unpacking {archive.name}", done, len(members))
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise FetchError(
            f"{archive} is no ZIP archive, or is damaged ({error}). Delete it and fetch it again."
        ) from error
    except NotImplementedError as error:
        raise FetchError(f"{archive} is packed in a way that Python does not read; unpack it by hand: 7z x.") from error
    except OSError as error:
        raise FetchError(f"{folder}: unpacking {archive.name} failed: {error.strerror or 'unknown error'}.") from error
    return len(members)


def _checked(archive: Path, members: list[zipfile.ZipInfo]) -> list[Path]:
    """Where the members go, relative to the folder. Raises `FetchError` for one that is not harmless."""
    if len(members) > MAX_MEMBERS:
        raise FetchError(f"{archive} has {len(members):,} members, more than {MAX_MEMBERS:,}; nothing was unpacked.")
    places = []
    for number, member in enumerate(members, start=1):
        place = PurePosixPath(member.filename.replace("\\", "/"))
        outside = place.is_absolute() or ".." in place.parts or not place.parts or ":" in place.parts[0]
        if outside or "\0" in member.filename:
            raise FetchError(f"{archive}: member {number} would be written outside the folder; nothing was unpacked.")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise FetchError(f"{archive}: member {number} is a link; nothing was unpacked.")
        if member.flag_bits & 1:
            raise FetchError(f"{archive}: member {number} is encrypted; nothing was unpacked.")
        places.append(Path(place))
    unpacked = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    if unpacked > max(_SMALL, MAX_RATIO * min(packed, archive.stat().st_size)):
        raise FetchError(
            f"{archive} would grow more than {MAX_RATIO} times; that is no data set. Nothing was unpacked."
        )
    return places


def _write(opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.part")
    try:
        # zipfile reads no more than the size that was announced, and compares the CRC at the end.
        with opened.open(member) as source, aside.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
