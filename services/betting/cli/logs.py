"""`betting logs`: everything that the services of a data folder logged about one request, by its correlation id."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from betting.cli.options import Data
from betting.embedded.folder import DataFolder
from betting.supervision import logfile
from betting.supervision.errors import PlatformError, from_os_error

_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
# A line that is no JSON, like one of Postgres, may begin with its time in UTC.
_TIME = re.compile(rb"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d(?:\.\d{1,6})?)")
# Fields that have columns of their own, or are the same on every line.
_OWN_COLUMNS = frozenset(
    {"timestamp", "workload", "instance", "boot_id", "component", "level", "event", "correlation_id", "exception"}
)
_UNKNOWN_TIME = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log: when it was written (UTC), by which process, in which file; of plain text, `event` is all."""

    at: datetime
    process: str
    file: str
    fields: dict[str, Any]


def command(
    correlation_id: Annotated[
        str, typer.Argument(metavar="ID", help="The X-Correlation-Id of a reply, from its header or its error.")
    ],
    data: Data = Path(".betting"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per line, with the name of its file.")
    ] = False,
) -> None:
    """Show what every service logged about one request, in order of time; also from rotated logs.

    Failures are always logged. What went well is logged by gateway and bet-service when the caller named the id itself,
    and for everybody with BETTING_LOG_LEVEL=debug. Exit code 1: nothing was found.
    """
    if not _ID.fullmatch(correlation_id):
        raise PlatformError(
            f"{correlation_id[:80]!a} is no correlation id: give the 1 to 64 letters, digits and .:_- "
            "that the header X-Correlation-Id of the answer holds."
        )
    folder = DataFolder.at(data)
    files = _files(folder)
    found = find(files, correlation_id)
    if not found:
        raise PlatformError(_nothing(correlation_id, files))
    for line in found:
        typer.echo(_json(line) if as_json else _text(line))


def find(files: list[Path], correlation_id: str) -> list[Line]:
    """The lines about a request, in order of time; lines of the same moment in the order of their files.

    A file that cannot be read is left out, and named on standard error.
    """
    found: dict[tuple[str, bytes], Line] = {}  # a line that was just being rotated is in two files
    for file in files:
        try:
            for raw, line in _lines_about(file, correlation_id):
                found.setdefault((line.process, raw), line)
        except FileNotFoundError:
            continue  # rotated away meanwhile: its lines are in the next file
        except OSError as error:
            typer.echo(f"{file} is left out: {error.strerror}", err=True)
    return sorted(found.values(), key=lambda line: line.at)


def _files(folder: DataFolder) -> list[Path]:
    """Every log of every process. Raises PlatformError when there is none."""
    place = folder.log("any").parent
    if not folder.path.is_dir():
        raise PlatformError(f"There is no data folder {folder.path}: choose the one of `betting up` with --data.")
    try:
        files = logfile.all_in(place)
    except OSError as error:
        raise from_os_error(error, f"reading {place}") from error
    if not files:
        raise PlatformError(
            f"There are no logs in {place}: `betting up` never ran there, or choose another with --data."
        )
    return files


def _nothing(correlation_id: str, files: list[Path]) -> str:
    size_mib = sum(file.stat().st_size for file in files if file.exists()) / 2**20
    return (
        f"No line about {correlation_id} in the {len(files)} files of {files[0].parent} ({size_mib:.1f} MiB): is it "
        "the id of an answer of this platform? Older lines may have been rotated away, and what went well is logged "
        "only if its caller named the id."
    )


def _lines_about(file: Path, correlation_id: str) -> Iterator[tuple[bytes, Line]]:
    wanted = correlation_id.encode("ascii")
    word = re.compile(rb"(?<![A-Za-z0-9._:-])" + re.escape(wanted) + rb"(?![A-Za-z0-9._:-])")
    process = file.name.partition(".log")[0]
    before = b""
    with file.open("rb") as log:
        for raw in log:
            if wanted in raw:
                fields = _fields(raw)
                if fields is None and word.search(raw):
                    at = _time_of(raw) or _time_of(before) or _UNKNOWN_TIME
                    yield raw, Line(at, process, file.name, {"event": raw.decode(errors="replace").strip()})
                elif fields is not None and _is_about(fields, correlation_id):
                    yield raw, Line(_time_of(raw) or _UNKNOWN_TIME, process, file.name, fields)
            if raw.startswith(b"{") or _TIME.match(raw):
                before = raw


def _fields(raw: bytes) -> dict[str, Any] | None:
    """The fields of a structured line; None for one that is none, or was cut off."""
    if not raw.startswith(b"{"):
        return None
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _is_about(fields: dict[str, Any], correlation_id: str) -> bool:
    """A line carries the id of its request, or of all the requests that it is about."""
    several = fields.get("correlation_ids")
    return fields.get("correlation_id") == correlation_id or (isinstance(several, list) and correlation_id in several)


def _time_of(raw: bytes) -> datetime | None:
    """When a line was written, as it says itself, in UTC."""
    fields = _fields(raw)
    if fields is not None:
        text = str(fields.get("timestamp", ""))
    else:
        match = _TIME.match(raw)
        text = f"{match[1].decode()}T{match[2].decode()}" if match is not None else ""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        return None


def _text(line: Line) -> str:
    at = "-" if line.at == _UNKNOWN_TIME else line.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    fields = line.fields
    level = str(fields.get("level", "-"))
    others = [f"{name}={_value(value)}" for name, value in fields.items() if name not in _OWN_COLUMNS]
    if "correlation_ids" in fields:
        others = [each for each in others if not each.startswith("correlation_ids=")]
        others.append(f"requests={len(fields['correlation_ids'])}")
    head = f"{at:<24}  {line.process:<18}  {level:<8}  {_printable(str(fields.get('event', '')))}"
    below = [f"    {_printable(each)}" for each in str(fields.get("exception", "")).splitlines()]
    return "\n".join(["  ".join([head, *others]), *below])


def _value(value: Any) -> str:
    """The value as it is if it is one printable word, else as JSON: a log line cannot fake a second one."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if text and text.isprintable() and " " not in text else json.dumps(value)


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _json(line: Line) -> str:
    at = None if line.at == _UNKNOWN_TIME else line.at.isoformat().replace("+00:00", "Z")
    return json.dumps(line.fields | {"timestamp": at, "process": line.process, "file": line.file})
