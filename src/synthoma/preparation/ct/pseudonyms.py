"""Names of patients and volumes that lead nowhere without the owner's key.

The same patient gets the same pseudonym in the next delivery, since the key is a file that stays; and because it lies
outside of every dataset, whoever holds the dataset cannot try out patient numbers until one fits.
HMAC-SHA256: RFC 2104; the first 64 bits are kept, so that two of a million names share one with a chance of 3e-8.
"""

import contextlib
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from synthoma.errors import DataError

KEY_VARIABLE = "SYNTHOMA_KEY_FILE"
_DEFAULT = Path(".config") / "synthoma" / "pseudonym.key"
_BYTES, _FEWEST_BYTES, _MOST_BYTES = 32, 16, 4096
_OTHERS = 0o077


@dataclass(frozen=True)
class PseudonymKey:
    """The secret, and the file that it is in. made: just now; warnings: what is wrong with the file."""

    secret: bytes = field(repr=False)
    file: Path | None = field(default=None, repr=False)
    made: bool = field(default=False, repr=False)
    warnings: tuple[str, ...] = ()

    def name(self, kind: str, identifier: str) -> str:
        """16 hex digits for an identifier of a kind ("patient", "volume", ...); equal ones of two kinds differ."""
        return hmac.new(self.secret, f"{kind}\0{identifier}".encode(), hashlib.sha256).hexdigest()[:16]

    def check_outside(self, folder: Path) -> None:
        """Raises `DataError` for a key that lies in a folder that will be handed on."""
        if self.file is not None and self.file.resolve().is_relative_to(folder.resolve()):
            raise DataError(
                f"{self.file}: the key of the pseudonyms lies in {folder}, and would be given away with it. Keep it elsewhere: "
                "--key FILE."
            )

    @property
    def fingerprint(self) -> str:
        """Tells two keys apart, and nothing about them."""
        return self.name("fingerprint", "")


def key_place(given: Path | None = None) -> Path:
    """File of the key: `given`, else $SYNTHOMA_KEY_FILE, else ~/.config/synthoma/pseudonym.key."""
    if given is not None:
        return given
    variable = os.environ.get(KEY_VARIABLE)
    return Path(variable) if variable else Path.home() / _DEFAULT


def load_key(given: Path | None = None) -> PseudonymKey:
    """The key of `key_place(given)`; made there, readable by nobody else, where there is none.

    Raises `DataError` for one that is too short to be a secret, or a file that cannot be read or written.
    """
    file = key_place(given)
    try:
        made = not file.exists()
        if made:
            _make(file)
        with file.open("rb") as opened:
            secret = opened.read(_MOST_BYTES + 1)
        mode = file.stat().st_mode
    except OSError as error:
        raise DataError(
            f"{file}: the key of the pseudonyms can be neither read nor made ({error.strerror}). Name another file: --key FILE."
        ) from error
    if not _FEWEST_BYTES <= len(secret) <= _MOST_BYTES:
        raise DataError(
            f"{file} is no key: {_FEWEST_BYTES} to {_MOST_BYTES} random bytes are expected. Name a file that does not exist yet, and "
            "a key is made there."
        )
    told = "The key of the pseudonyms can be read by other users of this machine; chmod 600 it."
    return PseudonymKey(secret, file, made, (told,) if mode & _OTHERS else ())


def _make(file: Path) -> None:
    """Write a new key; where another process was faster, its key stays."""
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(secrets.token_bytes(_BYTES))
            opened.flush()
            os.fsync(opened.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(aside, file)
    finally:
        aside.unlink()
