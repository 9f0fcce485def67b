"""The audit: re-derives every balance, open bet and settlement from the journal in SQL; it takes nobody's word.

It shares no code with `betting.engine` or `betting.journal` (import-linter checks that): a rule misread there is not
misread here the same way. Everything is read in one snapshot of a live database; only temporary tables are written.

| module             | holds                                                                      |
| ------------------ | -------------------------------------------------------------------------- |
| `report`           | what an audit found: frozen values                                         |
| `catalogue`        | the checks and the tables they read, loaded from SQL files                 |
| `checks/*.sql`     | one check each: its name, its meaning, a query for the rows that break it  |
| `derive/*.sql`     | what the journal says, decoded: one temporary table each                   |
| `acknowledgements` | the file of what clients were told                                         |
| `session`          | connections, the shared snapshot, the temporary tables                     |
| `auditor`          | shards in batches, checks one after the other, the report                  |
| `rendering`        | the report as a table and as JSON                                          |
"""

from __future__ import annotations

from betting.audit.auditor import audit
from betting.audit.report import CannotAudit, Progress, Report

__all__ = ["CannotAudit", "Progress", "Report", "audit"]
