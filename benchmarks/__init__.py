"""What the testbed costs, held against references: programs of a checkout, each on its own."""
