"""Reading the text files of data sets."""

from __future__ import annotations

from pathlib import Path

from edgebench.errors import DataError


def read_text(path: Path, how_to_get: str) -> str:
    """A text file in UTF-8, with or without a byte order mark. Raises DataError for one that is missing or no text."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path}: missing; it belongs to {how_to_get}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); it belongs to {how_to_get}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no text in UTF-8 (byte {error.start}); it belongs to {how_to_get}") from error
