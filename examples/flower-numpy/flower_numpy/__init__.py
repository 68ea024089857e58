"""Linear regression by gradient descent: each client has its own share of the same relation, and its own noise."""
