"""A package of its own, lest one that is installed by the name of `tests` be taken for it (ciw brings one)."""
