"""Which shard a user is in, and which instance should own a shard. Pure; shared by instances, healer and router."""

from betting.placement.shards import place, shard_of

__all__ = ["place", "shard_of"]
