"""What a gRPC-Web or Connect client does with a reply's bytes."""

from __future__ import annotations

import struct

_PREFIX = struct.Struct(">BI")


def split_frames(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """All complete frames at the front of `data` as (flags, payload), and the bytes left over."""
    frames = []
    start = 0
    while len(data) - start >= _PREFIX.size:
        flags, length = _PREFIX.unpack_from(data, start)
        end = start + _PREFIX.size + length
        if end > len(data):
            break
        frames.append((flags, data[start + _PREFIX.size : end]))
        start = end
    return frames, data[start:]
