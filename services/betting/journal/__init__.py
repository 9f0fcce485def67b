"""The journal in Postgres: fenced group commit, ownership of shards, snapshots, read models and their migrations.

| module                       | what it does                                                                |
| ---------------------------- | --------------------------------------------------------------------------- |
| `append`                     | the only way into the journal: one fenced statement per batch               |
| `ownership`                  | acquire, steal, take again, release, freeze a shard                         |
| `directory`                  | who owns what, who is alive: register, beat, observe                        |
| `placements`                 | the healer's beat and term, and where it wants shards to be                 |
| `reader`                     | head and entries of a shard, entries of a bet                               |
| `requests`                   | what a request key was answered with                                        |
| `snapshots`                  | states of shards as bytes, newest good one first                            |
| `projector`                  | derives the read models                                                     |
| `read_model`                 | queries on them                                                             |
| `consumers`                  | who follows the journal: positions, and claims of shards                    |
| `notifications`              | their table                                                                 |
| `partitions`                 | makes and drops the daily partitions of the request keys                    |
| `migrate`                    | brings a database's schema up to date; `install` fixes the number of shards |
| `preload`, `fault_injection` | what benchmarks and drills do to it                                         |

No other package has SQL on the schema `betting`, except the audit, which shares no code with what it audits.

Functions take asyncpg connections made by `connection.connect`, or of a pool whose `init` is `connection.prepare`.
"""
