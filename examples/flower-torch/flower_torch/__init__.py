"""Two rings around one centre: each client sees a sector of them, and together they see all."""
