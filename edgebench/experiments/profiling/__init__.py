"""Measuring a machine: how long the work of a node takes on it."""
