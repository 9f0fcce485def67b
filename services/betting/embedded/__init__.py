"""The embedded platform: Postgres and Valkey from wheels and every service as a process, in one data folder."""
