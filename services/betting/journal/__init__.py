"""The journal in Postgres: fenced group commit, ownership of shards, snapshots, read models and their migrations.

| module       | what it does                                                                     |
| ------------ | -------------------------------------------------------------------------------- |
| `append`     | the only way into the journal: one fenced statement per batch                    |
| `ownership`  | acquire, steal, take again, release, freeze a shard                              |
| `directory`  | who owns what, who is alive: register, beat, observe                             |
| `placements` | the healer's beat and term, and where it wants shards to be                      |
| `reader`     | head and entries of a shard                                                      |
| `requests`   | what a request key was answered with                                             |
| `snapshots`  | states of shards as bytes, newest good one first                                 |
| `projector`  | derives the read models                                                          |
| `read_model` | queries on them                                                                  |
| `partitions` | makes and drops the daily partitions of the request keys                         |
| `migrate`    | brings a database's schema up to date; `install` fixes the number of shards      |

Functions take asyncpg connections made by `connection.connect`, or of a pool whose `init` is `connection.prepare`.
"""
