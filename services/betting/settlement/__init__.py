"""settlement-service: turns a result into one command per shard, keeps track, and goes on after any crash.

| module     | role                                                                  |
| ---------- | --------------------------------------------------------------------- |
| `main`     | composition root                                                      |
| `servicer` | SettlementService over gRPC                                           |
| `requests` | what may be asked: checks, and outcomes from a score                  |
| `store`    | settlements and their progress per shard, in Postgres                 |
| `runner`   | carries settlements through all shards                                |
| `render`   | rows as protobuf                                                      |
"""
