"""What other systems leave in a folder that was copied or unpacked there, beside what belongs to it."""

from __future__ import annotations

from pathlib import Path

_APPLE_DOUBLE = bytes.fromhex("00051607000200004d6163204f532058") + bytes(range(128, 256))


def strew(folder: Path) -> Path:
    """A Mac's `._NAME` beside every file and folder, its `.DS_Store` and `__MACOSX`, and what Windows keeps of a folder
    of pictures. None of it is text, a picture or a sound. Returns the folder."""
    for path in [*folder.rglob("*")]:
        path.with_name(f"._{path.name}").write_bytes(_APPLE_DOUBLE)
    for place in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
            (place / name).write_bytes(_APPLE_DOUBLE)
    for path in [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]:
        twin = folder / "__MACOSX" / path.relative_to(folder)
        twin.parent.mkdir(parents=True, exist_ok=True)
        twin.with_name(f"._{twin.name}").write_bytes(_APPLE_DOUBLE)
    return folder
