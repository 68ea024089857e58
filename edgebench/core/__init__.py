"""The decision logic as events in and actions out: no socket, no thread, no clock of its own."""
