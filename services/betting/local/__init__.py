"""The embedded platform: Postgres and Valkey from wheels, every service as a process, and the faults of the demo."""
