"""Containers of this computer as machines of a lab: the engine, images, networks, and what is left to be removed.

Knows the lab's wheel, and nothing of parts; `executors/container_fleet.py` runs in what is made here.
"""
