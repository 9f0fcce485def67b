"""settlement-service: turns a result into one command per shard, keeps track, and goes on after any crash.

Several share the work. What cannot be settled without a person waits, shown, and holds up nothing else.

| module     | role                                                                  |
| ---------- | --------------------------------------------------------------------- |
| `main`     | composition root                                                      |
| `servicer` | SettlementService over gRPC                                           |
| `requests` | what may be asked: checks, outcomes from a score, earlier results     |
| `store`    | settlements, their progress per shard, and claims on them, in Postgres |
| `runner`   | carries settlements through all shards                                |
| `render`   | rows as protobuf                                                      |
"""
