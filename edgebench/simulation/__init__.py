"""The same topology in virtual time: what stations do to what arrives at them, without a process, a socket or a
wait."""
