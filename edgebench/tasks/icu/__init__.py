"""Patient monitoring in intensive care: death, decompensation and heart failure from 48 hourly steps."""
