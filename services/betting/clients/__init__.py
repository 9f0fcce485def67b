"""Clients of the platform's own services: the router to the owner of a shard, and the watch of prices."""
