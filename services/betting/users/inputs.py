"""What people type, checked and brought to one form. Pure: raises INVALID_ARGUMENT with a reason per field.

An address is compared in one spelling: NFKC, case folded, the domain as IDNA 2008 A-labels (RFC 5891, UTS 46).
Passwords follow the OpaqueString profile (RFC 8265, 4.2): NFC, every space is U+0020, no control characters, case kept.
"""

from __future__ import annotations

import unicodedata
from typing import Final

import idna

from betting.runtime.errors import ServiceError, invalid_argument, shown

EMAIL_LENGTH_MAX: Final = 254  # RFC 5321, 4.5.3.1.3, without the angle brackets
LOCAL_PART_OCTETS_MAX: Final = 64  # RFC 5321, 4.5.3.1.1
PASSWORD_LENGTH_MIN: Final = 10
PASSWORD_LENGTH_MAX: Final = 200
DISPLAY_NAME_LENGTH_MAX: Final = 60

# Normalising costs time in proportion to the input: nothing longer than this is looked at.
_RAW_LENGTH_MAX: Final = 1024
_ATEXT_SYMBOLS: Final = frozenset("!#$%&'*+-/=?^_`{|}~")  # RFC 5322, 3.2.3


def normalised_email(raw: str) -> str:
    """The one spelling of an address under which it is stored and found. Raises EMAIL_INVALID."""
    if not raw.strip():
        raise _bad_email("is missing: write it as name@example.com")
    if len(raw) > _RAW_LENGTH_MAX:
        raise _bad_email(f"has {len(raw)} characters: {EMAIL_LENGTH_MAX} is the limit")
    local, at, domain = unicodedata.normalize("NFKC", raw.strip()).rpartition("@")
    if not at:
        raise _bad_email("has no @: write it as name@example.com")
    local = _folded(local)
    _check_local_part(local)
    email = f"{local}@{_ascii_domain(domain)}"
    if len(email) > EMAIL_LENGTH_MAX:
        raise _bad_email(f"has {len(email)} characters: {EMAIL_LENGTH_MAX} is the limit")
    return email


def new_password(raw: str) -> str:
    """A password somebody chooses, normalised: 10 to 200 characters, none of control. Raises PASSWORD_INVALID."""
    password = _opaque(raw)
    if not PASSWORD_LENGTH_MIN <= len(password) <= PASSWORD_LENGTH_MAX:
        raise _bad_password(f"has {len(password)} characters: give {PASSWORD_LENGTH_MIN} to {PASSWORD_LENGTH_MAX}")
    return password


def given_password(raw: str) -> str:
    """A password somebody logs in with, normalised. Too short is merely wrong: the rule for new ones may change."""
    password = _opaque(raw)
    if not 1 <= len(password) <= PASSWORD_LENGTH_MAX:
        raise _bad_password(f"has {len(password)} characters: give 1 to {PASSWORD_LENGTH_MAX}")
    return password


def display_name(raw: str) -> str:
    """A name to show: NFC, single spaces, 1 to 60 printable characters. Raises DISPLAY_NAME_INVALID."""
    if len(raw) > _RAW_LENGTH_MAX:
        raise _bad_name(f"has {len(raw)} characters: give 1 to {DISPLAY_NAME_LENGTH_MAX}")
    name = " ".join(part for part in _spaces_as_ascii(unicodedata.normalize("NFC", raw)).split(" ") if part)
    if not 1 <= len(name) <= DISPLAY_NAME_LENGTH_MAX:
        raise _bad_name(f"has {len(name)} characters: give 1 to {DISPLAY_NAME_LENGTH_MAX}")
    # Also refuses invisible and direction-changing characters (category Cf), with which names imitate others.
    if not name.isprintable():
        raise _bad_name("has characters that cannot be printed: leave them out")
    return name


def _folded(text: str) -> str:
    """NFKC, case folded; twice, because folding can undo the normal form (Unicode 3.13, D146)."""
    for _ in range(2):
        text = unicodedata.normalize("NFKC", text).casefold()
    return unicodedata.normalize("NFKC", text)


def _check_local_part(local: str) -> None:
    if not local:
        raise _bad_email("has nothing before the @: write it as name@example.com")
    if len(local.encode()) > LOCAL_PART_OCTETS_MAX:
        raise _bad_email(f"has {len(local.encode())} bytes before the @: {LOCAL_PART_OCTETS_MAX} is the limit")
    if not all(atom and all(map(_is_atext, atom)) for atom in local.split(".")):
        wrong = next((char for char in local if char != "." and not _is_atext(char)), None)
        if wrong is None:
            raise _bad_email("has a dot out of place before the @: none at its ends, no two together")
        raise _bad_email(f"has {shown(wrong)} before the @, which an address cannot have: leave it out")


def _is_atext(char: str) -> bool:
    """A character of a dot-atom: RFC 5322's, and letters, digits and marks of every script (RFC 6531)."""
    if char in _ATEXT_SYMBOLS:
        return True
    return unicodedata.category(char)[0] in "LNM"


def _ascii_domain(domain: str) -> str:
    try:
        ascii_domain = idna.encode(domain, uts46=True, std3_rules=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError):
        raise _bad_email(
            f"has {shown(domain)} after the @, which is no domain: write one such as example.com"
        ) from None
    last = ascii_domain.rpartition(".")[2]
    if "." not in ascii_domain or ascii_domain.endswith(".") or last.isdigit():
        raise _bad_email(f"has {shown(domain)} after the @: give a full domain, such as example.com")
    return ascii_domain


def _opaque(raw: str) -> str:
    if len(raw) > _RAW_LENGTH_MAX:
        raise _bad_password(f"has {len(raw)} characters: {PASSWORD_LENGTH_MAX} is the limit")
    password = unicodedata.normalize("NFC", _spaces_as_ascii(raw))
    if any(unicodedata.category(char) in {"Cc", "Cs", "Cn"} for char in password):
        raise _bad_password("has control characters: leave them out")
    return password


def _spaces_as_ascii(text: str) -> str:
    return "".join(" " if unicodedata.category(char) == "Zs" else char for char in text)


def _bad_email(what: str) -> ServiceError:
    return invalid_argument("EMAIL_INVALID", f"email {what}")


def _bad_password(what: str) -> ServiceError:
    return invalid_argument("PASSWORD_INVALID", f"password {what}")


def _bad_name(what: str) -> ServiceError:
    return invalid_argument("DISPLAY_NAME_INVALID", f"display_name {what}")
