"""Addresses of databases, purely: what may be shown of one (never a part of a password), what a password in it may be.

A password with / # ? or @ that is not percent-encoded ends early for a parser, and what follows is taken for the host,
the port or the name of the database: then neither these nor the words of the driver about them may be shown.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

UNREADABLE = "the address cannot be read: percent-encode / # ? @ : and % in user and password"
POSTGRES_PORT = 5432
# A password of a server of ours: it needs no escapes in a URL, in SQL or in Valkey's configuration (RFC 3986, 2.3:
# unreserved).
PASSWORD = re.compile(r"[A-Za-z0-9._~-]{16,128}")
PASSWORD_RULE = "give 16 to 128 letters, digits and characters of . _ ~ -"  # noqa: S105
_END_OF_AUTHORITY = "/?#"


def is_clear(dsn: str) -> bool:
    """Whether no parser can take a part of the password for something else."""
    _scheme, separator, rest = dsn.partition("://")
    if not separator:
        return "@" not in dsn  # host=… port=…
    authority, tail = _split(rest)
    return authority.count("@") <= 1 and "@" not in tail and "#" not in tail and "password" not in tail.lower()


def is_cut_off(url: str) -> bool:
    """Whether a URL's password has a / # or ? that ends it too early, and the host with it."""
    return "@" in _split(url.partition("://")[2])[1]


def _split(rest: str) -> tuple[str, str]:
    end = min((at for each in _END_OF_AUTHORITY if (at := rest.find(each)) >= 0), default=len(rest))
    return rest[:end], rest[end:]


def address_of(dsn: str) -> str:
    """ "host:port" of a DSN for people; never user or password."""
    try:
        parts = urlsplit(dsn)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "an address that cannot be read"
    if not is_clear(dsn):
        return "an address that cannot be read"
    return f"{host or 'local socket'}:{port or POSTGRES_PORT}"


def why_not_connected(dsn: str, error: BaseException) -> str:
    """What may be shown of an error of asyncpg or psycopg, raised while it read this DSN or connected.

    Both quote what they cannot read: asyncpg in a ValueError, psycopg in a ProgrammingError itself, whose subclasses
    are answers of the server, and in a UnicodeDecodeError where percent-escapes are not UTF-8. A certificate that is
    refused is a ValueError, too, and an OSError.
    """
    quotes = type(error).__name__ == "ProgrammingError" or (
        isinstance(error, ValueError) and not isinstance(error, OSError)
    )
    if quotes or not is_clear(dsn):
        return UNREADABLE
    return str(error) or type(error).__name__
