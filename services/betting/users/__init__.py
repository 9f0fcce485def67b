"""user-service: accounts, sign-in, sessions, and the keys that verify access tokens."""
