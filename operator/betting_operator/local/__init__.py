"""The healer on a laptop: the brain's eyes and hands, around the supervisor, Postgres and the services' health.

| module            | role                                                                     |
| ----------------- | ------------------------------------------------------------------------ |
| `main`            | composition root                                                         |
| `healer`          | the loop: look, decide, record, do, tell                                 |
| `observer`        | puts one observation together                                            |
| `supervisor_link` | the supervisor's word about processes, and killing through it            |
| `probing`         | the healer's own questions to every instance                             |
| `pulse`           | how late the healer itself is                                            |
| `database`        | one connection: directory, followers, switch, Redis record; term and beat |
| `redis_watch`     | Redis nodes: what each says of itself, and what it is told               |
| `auditing`        | the books of one shard after the other                                   |
| `feeds`           | producers of prices, as odds-service tells of them                       |
| `executor`        | actions, each with its fence                                             |
| `recorder`        | flight records                                                           |
| `telling`         | what changed, in lines for people                                        |
"""
