"""What runs underneath: the supervisor of one machine. The healer sees only the port."""
