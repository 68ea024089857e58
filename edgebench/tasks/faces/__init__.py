"""Is this face that of a person known to the house? Verification by embeddings."""
