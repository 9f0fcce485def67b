"""Redis streams of committed entries, one per shard: `outbox` publishes, `consumer` reads, `wire` is their form.

Nothing here is the only copy of anything: a stream can be lost whole, and consumers read the journal instead.
"""
