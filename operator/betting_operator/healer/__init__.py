"""The healer: the loop around the brain, the same on every platform.

| module        | role                                                                      |
| ------------- | ------------------------------------------------------------------------- |
| `main`        | composition root                                                          |
| `healer`      | the loop: observe, decide, execute, record, report                        |
| `policy_file` | what it may do, as the operator on Kubernetes writes it                   |
| `observer`    | puts one observation together                                             |
| `prober`      | the healer's own questions to every instance                              |
| `pulse`       | how late the healer itself is                                             |
| `database`    | one connection: directory, consumers, switch, Redis record; term and heartbeat |
| `redis_watch` | Redis nodes: what each reports, and the commands to them                 |
| `auditing`    | the books of one shard after the other                                    |
| `feeds`       | producers of prices, as odds-service tells of them                        |
| `executor`    | actions, each with its fence                                              |
| `recorder`    | flight records                                                            |
| `reporting`   | what changed, in lines for people                                         |
| `history`     | every action with its diagnosis, and how long what was wrong lasted       |
| `action_writer` | on Kubernetes: HealingActions and Events                                |
| `report_file` | on Kubernetes: what stands now, for the status of the platform            |

What runs underneath is asked through `betting_operator.platforms`.
"""
