"""From bytes to text: what kind of file this is, and how its characters are encoded."""

from __future__ import annotations

import codecs
import re

from betting.feeds.seasons.rows import Refusal, clean

MAX_FILE_BYTES = 8 * 1024 * 1024

_DOWNLOAD = "download the season's CSV file again from football-data.co.uk"
_SAVE = "save the sheet as CSV (comma delimited), or " + _DOWNLOAD
# The first bytes of files that are taken for a season by mistake.
_KINDS = (
    (b"PK\x03\x04", f"this is an Excel workbook or a zip archive: unpack it, {_SAVE}"),
    (b"\xd0\xcf\x11\xe0", f"this is an Excel workbook: {_SAVE}"),
    (b"\x1f\x8b", "this is a gzip archive: unpack it"),
    (b"%PDF", f"this is a PDF document: {_DOWNLOAD}"),
    (b"{", f"this is JSON: {_DOWNLOAD}"),
    (b"[", f"this is JSON: {_DOWNLOAD}"),
)
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
_LOOKED_AT_BYTES = 4_096
_TITLE = re.compile(rb"<title[^>]*>(.{1,200}?)</title>", re.IGNORECASE | re.DOTALL)


def decode(content: bytes) -> str:
    """The file's text: UTF-8, or Windows-1252 where a line is not. Raises Refusal, saying what the file is."""
    if len(content) > MAX_FILE_BYTES:
        raise Refusal(1, "", f"the file has over {MAX_FILE_BYTES} bytes, the most a season file may have: {_DOWNLOAD}")
    _check_kind(content)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        lines = content.removeprefix(codecs.BOM_UTF8).split(b"\n")
        return "\n".join(_decode_line(line) for line in lines)


def _check_kind(content: bytes) -> None:
    if _is_wide(content):
        raise Refusal(1, "", 'this is UTF-16 text (Excel\'s "Unicode Text"): save the sheet as "CSV UTF-8"')
    start = content.removeprefix(codecs.BOM_UTF8)[:_LOOKED_AT_BYTES].lstrip()
    if not start:
        raise Refusal(1, "", f"the file is empty ({len(content)} bytes without any text): {_DOWNLOAD}")
    for beginning, message in _KINDS:
        if start.startswith(beginning):
            raise Refusal(1, "", message)
    if start.startswith(b"<"):
        raise Refusal(1, "", f"this is a web page{_title(start)}, not a season file: {_DOWNLOAD}")
    if b"\x00" in content:
        line = content[: content.index(b"\x00")].count(b"\n") + 1
        raise Refusal(line, "", f"holds a zero byte, so this is not a text file: {_SAVE}")


def _is_wide(content: bytes) -> bool:
    """UTF-16 and UTF-32, with or without their mark: every second byte of such text is zero."""
    start = content[:_LOOKED_AT_BYTES]
    half = len(start) // 2
    return start.startswith(_WIDE) or (half > 1 and max(start[::2].count(0), start[1::2].count(0)) > half * 3 // 4)


def _title(start: bytes) -> str:
    found = _TITLE.search(start)
    return f" ({clean(_decode_line(found[1]))[:60]!r})" if found else ""


def _decode_line(line: bytes) -> str:
    for encoding in ("utf-8", "windows-1252"):
        try:
            return line.decode(encoding)
        except UnicodeDecodeError:
            continue
    return line.decode("latin-1")  # every byte has a meaning there
