"""edgebench: an open edge-to-cloud federated AI testbed."""

__version__ = "0.1.0"
