"""The packed columns of a batch, against a slow reading of the same bytes."""

from __future__ import annotations

import struct

import pytest
from any_entries import entries
from hypothesis import given
from hypothesis import strategies as st

from betting.engine.entries import Entry
from betting.journal.columns import columns_of

ENTRIES = entries()


def slowly(columns: tuple[bytes, ...], row: int) -> Entry:
    """Cuts one row out of the columns as the append's SQL does."""

    def number(column: bytes, size: int) -> int:
        return int.from_bytes(column[row * size : (row + 1) * size], signed=True)

    def identifier(column: bytes) -> bytes | None:
        found = column[row * 16 : (row + 1) * 16]
        return found if any(found) else None

    sequence, kind, form, at, account, bet, key, market, *amounts, ends, bodies = columns
    begins = 0 if row == 0 else int.from_bytes(ends[row * 4 - 4 : row * 4])
    cash, stakes, house, clearing, receivable = (number(column, 8) for column in amounts)
    return Entry(
        number(sequence, 8), number(kind, 2), number(form, 2), number(at, 8), identifier(account), identifier(bet),
        identifier(key), number(market, 8) or None, cash, stakes, house, clearing, receivable,
        bodies[begins : number(ends, 4)],
    )  # fmt: skip


@given(st.lists(ENTRIES, min_size=1, max_size=8))
def test_every_row_can_be_cut_out_again(batch: list[Entry]) -> None:
    """Columns hold exactly what the entries said, whatever they said."""
    columns = columns_of(batch)
    assert [slowly(columns, row) for row in range(len(batch))] == batch


def test_a_number_that_does_not_fit_is_refused() -> None:
    """An amount beyond int64 is an error here, never a wrapped number in the journal."""
    entry = Entry(1, 2, 1, 1, None, None, None, None, 2**63, 0, 0, 0, 0, b"")
    with pytest.raises(struct.error):
        columns_of([entry])
