"""The wire protocols of the gateway, pure: bytes in, bytes out. No sockets, no clock, no services."""
