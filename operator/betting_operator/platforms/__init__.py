"""What runs underneath: the supervisor of one machine, or the pods of a cluster. The healer sees only the port."""
