"""user-service: who people are, that they are who they say, and the keys that prove it to the other services."""
