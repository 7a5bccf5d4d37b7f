"""A page as PDF, by the browser that is on the machine.

Chromium prints what the page shows on screen, by the page's own print styles, so paper and screen cannot drift apart; a
second layout engine (WeasyPrint) would have to be kept in step, and needs libraries of the system as well.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from synthoma.errors import SynthomaError
from synthoma.run import write_atomically

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")
VARIABLE = "SYNTHOMA_BROWSER"
SECONDS = 120


def find_browser() -> str | None:
    """Chromium or one of its kin: $SYNTHOMA_BROWSER, else the first on the path."""
    named = os.environ.get(VARIABLE)
    return shutil.which(named) if named else next((found for name in BROWSERS if (found := shutil.which(name))), None)


def write_pdf(page: Path, pdf: Path) -> Path:
    """Print an HTML page on A4; it is laid out without network. Returns `pdf`.

    `SynthomaError` where there is no browser, or it leaves no PDF.
    """
    browser = find_browser()
    if browser is None:
        raise SynthomaError(
            f"a PDF needs Chromium, Chrome or Edge, and none was found: install one (apt install chromium) or name it in "
            f"${VARIABLE}. Any browser prints {page} well, too."
        )
    with tempfile.TemporaryDirectory(prefix="synthoma-pdf-") as folder:
        made = Path(folder) / "page.pdf"
        command = [
            browser,
            "--headless",
            "--disable-gpu",
            "--disable-extensions",
            "--no-first-run",
            "--no-pdf-header-footer",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={folder}/profile",
            f"--print-to-pdf={made}",
            # The browser's sandbox refuses to start for root, as in a container.
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
            page.resolve().as_uri(),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SynthomaError(f"{browser} could not print {page} ({error}).") from error
        content = made.read_bytes() if made.is_file() else b""
        if not content.startswith(b"%PDF"):
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise SynthomaError(f"{browser} left no PDF of {page} (exit code {done.returncode}: {last}).")
        write_atomically(pdf, content)
    return pdf
