"""Keys that sign access tokens: which one signs, which are published, when a new one is due, how one is kept. Pure.

A key is published `publish_lead` before it signs, so that every gateway and every other user-service process has read
it by then; it signs until its successor does, and stays published until the last token signed with it has ended. If
nobody rotates (all user-services were down), a key stops signing in time for its last token to end before
`not_after_us`.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_SEAL_VERSION: Final = b"\x01"
_NONCE_BYTES: Final = 12
_HKDF_INFO: Final = b"betting user-service signing keys v1"


@dataclass(frozen=True, slots=True)
class KeyPolicy:
    """Durations in microseconds. `slack_us` covers clock differences between processes and late readers."""

    rotation_us: int
    publish_lead_us: int
    token_lifetime_us: int
    slack_us: int

    def __post_init__(self) -> None:
        assert 0 < self.publish_lead_us < self.rotation_us, "a key must be published before it is replaced"
        assert 0 < self.token_lifetime_us < self.rotation_us, "a key must sign longer than a token lives"
        assert self.slack_us >= 0


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A row of `users.signing_keys`; the private key is encrypted, times are microseconds since 1970."""

    key_id: str
    public_key: bytes
    sealed_private_key: bytes
    created_at_us: int
    signs_from_us: int
    not_after_us: int


@dataclass(frozen=True, slots=True)
class UnsealedKey:
    """A signing key with its decrypted private key."""

    key_id: str
    private_key: Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class PublishedKey:
    """A public key and until when tokens signed with it may be believed."""

    key_id: str
    public_key: bytes
    not_after_us: int


def sealing_key(internal_secret: bytes) -> bytes:
    """The key that private keys are encrypted with (HKDF-SHA256, RFC 5869)."""
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=_HKDF_INFO).derive(internal_secret)


def generate(sealing: bytes, *, now_us: int, signs_from_us: int, policy: KeyPolicy) -> StoredKey:
    """A new key pair, its private half sealed."""
    private_key = Ed25519PrivateKey.generate()
    key_id = secrets.token_hex(8)
    public_key = private_key.public_key().public_bytes_raw()
    nonce = secrets.token_bytes(_NONCE_BYTES)
    ciphertext = AESGCM(sealing).encrypt(nonce, private_key.private_bytes_raw(), _associated(key_id, public_key))
    return StoredKey(
        key_id=key_id,
        public_key=public_key,
        sealed_private_key=_SEAL_VERSION + nonce + ciphertext,
        created_at_us=now_us,
        signs_from_us=signs_from_us,
        not_after_us=signs_from_us + 2 * policy.rotation_us + policy.token_lifetime_us + policy.slack_us,
    )


def unsealed(key: StoredKey, sealing: bytes) -> UnsealedKey | None:
    """The key to sign with; None when it was sealed under another secret or its row was altered."""
    sealed = key.sealed_private_key
    if sealed[:1] != _SEAL_VERSION or len(sealed) <= 1 + _NONCE_BYTES:
        return None
    nonce, ciphertext = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
    try:
        raw = AESGCM(sealing).decrypt(nonce, ciphertext, _associated(key.key_id, key.public_key))
    except InvalidTag:
        return None
    return UnsealedKey(key.key_id, Ed25519PrivateKey.from_private_bytes(raw))


def signer(usable: Sequence[StoredKey], now_us: int, policy: KeyPolicy) -> StoredKey | None:
    """The key that signs now: the newest whose time has come and whose tokens would end before it does."""
    latest_end_us = now_us + policy.token_lifetime_us
    ready = [key for key in usable if key.signs_from_us <= now_us and latest_end_us <= key.not_after_us]
    return max(ready, key=_age, default=None)


def next_key_signs_from_us(usable: Sequence[StoredKey], now_us: int, policy: KeyPolicy) -> int | None:
    """When a key to be made now shall start to sign; None while no new key is due."""
    if signer(usable, now_us, policy) is None:
        return now_us
    newest = max(usable, key=_age)
    if newest.signs_from_us + policy.rotation_us - policy.publish_lead_us > now_us:
        return None
    return now_us + policy.publish_lead_us


def published(keys: Sequence[StoredKey], now_us: int, policy: KeyPolicy) -> list[PublishedKey]:
    """The keys whose tokens may still be believed, newest first."""
    ordered = sorted(keys, key=_age, reverse=True)
    ends = [key.not_after_us for key in ordered[:1]]
    for successor, key in itertools.pairwise(ordered):
        last_token_ends_us = successor.signs_from_us + policy.token_lifetime_us + policy.slack_us
        ends.append(min(key.not_after_us, last_token_ends_us))
    pairs = zip(ordered, ends, strict=True)
    return [PublishedKey(key.key_id, key.public_key, end_us) for key, end_us in pairs if end_us > now_us]


def _age(key: StoredKey) -> tuple[int, str]:
    return key.signs_from_us, key.key_id


def _associated(key_id: str, public_key: bytes) -> bytes:
    """Binds a sealed private key to its row."""
    return key_id.encode() + b"\x00" + public_key
