"""Bettors live: Socket.IO behind the gateway. docs/architecture/live.md says what clients may rely on.

python-socketio speaks the protocol; fanning out is ours: an update is encoded once, as one finished WebSocket frame,
and the same bytes are written to every member's connection.
"""
