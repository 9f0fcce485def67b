"""Writes docs/api/*.md from the public protos and their comments. `--check` only says whether they are current."""

from __future__ import annotations

import sys
import tempfile
from importlib import resources
from pathlib import Path

from google.protobuf import descriptor_pb2
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "docs" / "api"
Field = descriptor_pb2.FieldDescriptorProto
# Numbers of DescriptorProto's own fields, of which source paths are made.
MESSAGE, ENUM, SERVICE = 4, 5, 6
NESTED, IN_MESSAGE, VALUE, METHOD = 3, 2, 2, 2

SCALARS = {value: name.removeprefix("TYPE_").lower() for name, value in Field.Type.items()}

ERRORS = """
## Errors

An error has a gRPC status code, a reason in upper case for programs (`google.rpc.ErrorInfo`, domain `selfhealing.bet`),
and a message for people. The message names the field and the value that was sent, the limit, and what to do. It never
contains a password, a token or data of another user. Messages may change; codes and reasons do not.

    $ curl -s $api.BetService/PlaceBet -H 'Content-Type: application/json' -H "Authorization: Bearer $token" \\
        -d '{"legs": [{"price": {"numerator": 1.5}}]}'
    {"code": "invalid_argument", "message": "legs[0].price.numerator is 1.5: give a whole number from ... (int32)", ...

A refused bet, deposit or withdrawal is not an error: the reply has a [`Refusal`](common.md). A final refusal is
recorded, and a repeat with the same request key gets the same refusal with the same numbers.

Every reply has the header `X-Correlation-Id`: the one that the request had, or a new one. `betting logs ID` shows what
every service logged about that request. Failed requests are always logged.
"""


class Page:
    """One proto file as Markdown."""

    def __init__(self, file: descriptor_pb2.FileDescriptorProto) -> None:
        self._file = file
        self._comments = {
            tuple(location.path): location.leading_comments.strip() for location in file.source_code_info.location
        }
        self._lines: list[str] = []

    def render(self) -> str:
        name = Path(self._file.name).stem
        self._lines = [f"# {self._file.package}: {name}", "", f"Generated from `protos/{self._file.name}`.", ""]
        for index, service in enumerate(self._file.service):
            self._service(service, (SERVICE, index))
        for index, message in enumerate(self._file.message_type):
            self._message(message, (MESSAGE, index), "")
        for index, enum in enumerate(self._file.enum_type):
            self._enum(enum, (ENUM, index))
        return "\n".join(self._lines).rstrip() + "\n"

    def _comment(self, path: tuple[int, ...]) -> str:
        return " ".join(self._comments.get(path, "").split())

    def _service(self, service: descriptor_pb2.ServiceDescriptorProto, path: tuple[int, ...]) -> None:
        self._heading(2, service.name, path)
        self._lines += ["| method | request | response | |", "| --- | --- | --- | --- |"]
        for index, method in enumerate(service.method):
            stream = "stream of " if method.server_streaming else ""
            comment = self._comment((*path, METHOD, index))
            self._lines.append(
                f"| `{method.name}` | {_short(method.input_type)} | {stream}{_short(method.output_type)} | {comment} |"
            )
        self._lines.append("")

    def _message(self, message: descriptor_pb2.DescriptorProto, path: tuple[int, ...], outer: str) -> None:
        name = f"{outer}{message.name}"
        self._heading(3, name, path)
        if message.field:
            self._lines += ["| field | type | |", "| --- | --- | --- |"]
        for index, field in enumerate(message.field):
            comment = self._comment((*path, IN_MESSAGE, index))
            if field.HasField("oneof_index"):
                comment = f"(one of `{message.oneof_decl[field.oneof_index].name}`) {comment}".strip()
            self._lines.append(f"| `{field.name}` | {_type(field)} | {comment} |")
        self._lines.append("")
        for index, nested in enumerate(message.nested_type):
            if not nested.options.map_entry:
                self._message(nested, (*path, NESTED, index), f"{name}.")

    def _enum(self, enum: descriptor_pb2.EnumDescriptorProto, path: tuple[int, ...]) -> None:
        self._heading(3, enum.name, path)
        self._lines += ["| value | number | |", "| --- | --- | --- |"]
        for index, value in enumerate(enum.value):
            self._lines.append(f"| `{value.name}` | {value.number} | {self._comment((*path, VALUE, index))} |")
        self._lines.append("")

    def _heading(self, level: int, name: str, path: tuple[int, ...]) -> None:
        self._lines += ["#" * level + f" {name}", ""]
        if comment := self._comment(path):
            self._lines += [comment, ""]


def _type(field: Field) -> str:
    repeated = "repeated " if field.label == Field.LABEL_REPEATED else ""
    return repeated + (_short(field.type_name) if field.type_name else SCALARS[field.type])


def _short(type_name: str) -> str:
    return "`" + type_name.removeprefix(".betting.v1.").removeprefix(".") + "`"


def pages() -> dict[str, str]:
    """File name to content."""
    protos = sorted(str(path.relative_to(ROOT / "protos")) for path in (ROOT / "protos/betting/v1").glob("*.proto"))
    with tempfile.NamedTemporaryFile(suffix=".pb") as out:
        well_known = resources.files("grpc_tools") / "_proto"
        arguments = ["protoc", f"-I{ROOT / 'protos'}", f"-I{well_known}", "--include_source_info"]
        if protoc.main([*arguments, f"--descriptor_set_out={out.name}", *protos]) != 0:
            raise SystemExit("protoc failed")
        files = descriptor_pb2.FileDescriptorSet.FromString(Path(out.name).read_bytes()).file
    made = {f"{Path(file.name).stem}.md": Page(file).render() for file in files}
    index = ["# API", "", "The public contract, `betting.v1`. One page per service, generated from `protos/`.", ""]
    index += [f"- [{name.removesuffix('.md')}]({name})" for name in sorted(made)]
    return made | {"README.md": "\n".join(index) + "\n" + ERRORS}


def main() -> int:
    OUT.mkdir(parents=True, exist_ok=True)
    made = pages()
    if "--check" in sys.argv[1:]:
        there = {path.name: path.read_text() for path in OUT.glob("*.md")}
        stale = sorted(name for name in made.keys() | there.keys() if made.get(name) != there.get(name))
        if stale:
            print(f"docs/api is not current ({', '.join(stale)}): run make gen and commit the change", file=sys.stderr)
        return 1 if stale else 0
    for path in OUT.glob("*.md"):
        path.unlink()
    for name, text in made.items():
        (OUT / name).write_text(text)
    print(f"wrote {len(made)} pages to docs/api")
    return 0


if __name__ == "__main__":
    sys.exit(main())
