"""Reading of input files: one rule for size, kind and encoding, whatever is in them."""

import codecs
from pathlib import Path

from stakesim.schema.errors import FileError, InputError, place

MAX_SIZE = 250_000
"""Bytes of a YAML file: four thousand actions, which PyYAML reads in two or three seconds."""
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # before UTF-16's, which is its beginning
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def read_text(file: Path, kind: str, max_size: int = MAX_SIZE) -> str:
    """Reads a text file in UTF-8, with or without a byte order mark.

    Args:
        file: The file.
        kind: What the file is, for errors: "profile".
        max_size: Bytes that it may have.

    Raises:
        InputError: It can't be read, is no ordinary file or too large, or is in another encoding.
    """
    try:
        if file.exists() and not file.is_file():
            what = "a folder" if file.is_dir() else "no ordinary file"
            raise InputError(f"{file}: is {what}; give the path of a {kind}")
        if (size := file.stat().st_size) > max_size:
            raise FileError(f"{place(file, 1)}: has {size:,} bytes, and a {kind} at most {max_size:,}; split it")
        content = file.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{file}: can't be read: {reason}; give the path of a {kind}") from None
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            raise FileError(f"{place(file, 1)}: is {encoding} and not UTF-8; save it in that encoding")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FileError(f"{place(file, line)}: is not UTF-8; save it in that encoding") from None
    before, zero, _ = text.partition("\0")
    if zero:
        line = before.count("\n") + 1
        raise FileError(f"{place(file, line)}: has a zero byte, as no text in UTF-8 has; save it in that encoding")
    return text
