"""A small sound topology, from which tests make broken ones."""

SOUND = """\
schema: 1
name: small
duration_s: 10
nodes:
  cloud: {tier: cloud}
  ward: {tier: edge, count: 2, parent: cloud}
  bed: {tier: device, count: 3, parent: ward}
links:
  - {between: [bed, ward], latency_ms: 2}
  - {between: [ward, cloud], latency_ms: 20, jitter_ms: 1}
workloads:
  risk:
    task: icu-death
    source: bed
    load: {kind: fixed, rate_hz: 2}
"""


def edited(*changes: tuple[str, str]) -> str:
    """The sound topology with texts replaced; each must be there once."""
    text = SOUND
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text
