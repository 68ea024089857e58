"""Federated learning over the testbed's own links: what travels, how it travels, who learns, and the bridge to Flower.

Flower is imported in `flower.py` only; everything a device or an edge needs works without it.
"""
