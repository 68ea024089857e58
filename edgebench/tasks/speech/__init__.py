"""Speech to characters."""
