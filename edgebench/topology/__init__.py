"""Topologies: the file, its checks, and the deployment that it resolves to."""
