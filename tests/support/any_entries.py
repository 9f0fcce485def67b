"""Every entry that the journal's columns can hold, whatever it means."""

from __future__ import annotations

from hypothesis import strategies as st

from betting.engine.entries import Entry

int64 = st.integers(-(2**63), 2**63 - 1)
identifiers = st.none() | st.binary(min_size=16, max_size=16).filter(any)


def entries(sequence: st.SearchStrategy[int] = int64) -> st.SearchStrategy[Entry]:
    """With sequences of this strategy."""
    return st.builds(
        Entry,
        sequence=sequence,
        kind=st.integers(0, 32_767),
        format=st.integers(0, 32_767),
        at_us=int64,
        account=identifiers,
        bet=identifiers,
        request_key=identifiers,
        market=st.none() | st.integers(1, 2**63 - 1),
        cash_minor=int64,
        stakes_minor=int64,
        house_minor=int64,
        clearing_minor=int64,
        receivable_minor=int64,
        body=st.binary(max_size=40),
    )
