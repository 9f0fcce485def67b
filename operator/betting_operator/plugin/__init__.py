"""`kubectl betting`: a plugin of kubectl, for people. It has the rights of the person's own kubeconfig and no others.

| module      | role                                                                                     |
| ----------- | ---------------------------------------------------------------------------------------- |
| `main`      | the command line, and how errors are told                                                |
| `options`   | the options that every command has                                                       |
| `cluster`   | the person's cluster and namespace: objects, patches, commands in a pod                  |
| `platform`  | status, shards, thaw, audit, logs                                                        |
| `heal`      | log, plan, replay of decisions; pause, resume, dry run                                   |
| `rebalance` | proposals of planned moves, their approval, their end                                    |
| `drill`     | a fault injected now, and the results of the last ones                                   |

What is in Kubernetes' objects is read there. What is in Postgres is asked by the command line `betting` in the pod of
the health monitor, so that nobody needs access to the database.
"""
