"""The manifest of a stage's inputs: relative path, size and SHA-256 of each file, and one hash over all.

Sums are remembered by path, size, modification time and inode, so that a second run over ten thousand files reads none.
"""

from pathlib import Path

from synthoma.formats.files import walk_files
from synthoma.recipe import content_hash
from synthoma.run import file_sha256, read_json, write_json


def manifest_hash(paths: list[Path], memory: Path) -> str:
    """Hash over every file below `paths` (folders or files); `memory` is a JSON file that remembers the sums.

    The walk is that of the readers: hidden files are left out, links are followed. The hash depends on relative paths and contents, not on where the folder lies.
    """
    remembered: dict[str, str] = read_json(memory) if memory.exists() else {}
    current: dict[str, str] = {}
    lines: list[list[object]] = []
    for number, path in enumerate(paths):
        for file in [path] if path.is_file() else walk_files(path):
            status = file.stat()
            # Names of files and folders may be those of patients: nothing of them can be read out of this.
            known = content_hash([str(file), status.st_size, status.st_mtime_ns, status.st_ino])
            digest = remembered.get(known) or file_sha256(file)
            current[known] = digest
            relative = file.relative_to(path).as_posix() if path.is_dir() else ""
            lines.append([number, relative, status.st_size, digest])
    if current != remembered:
        write_json(memory, current)
    return content_hash(lines)
