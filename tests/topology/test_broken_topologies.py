from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgebench.cli import main
from edgebench.errors import TopologyError
from edgebench.tasks import names
from edgebench.topology import check, load, strict_yaml
from tests.topology.sound import SOUND, edited

TOP = "schema: 1\n"
WORKLOAD = "    task: icu-death\n"
CHAIN = "    place: {infer: [edge, cloud]}\n    split: 1\n"
FROM_DEVICES = "    place: {infer: [device, cloud]}\n    split: 1\n"
TASKS = f"(known: {', '.join(names())})"
NAME_RULE = "is no name (use a-z, 0-9 and '-', at most 63 characters, '-' neither first nor last)"
URL_FORM = "(write mqtt://host[:port], or mqtts:// for TLS)"
DIGEST = f"sha256:{'0' * 64}"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n" for before, after in zip("abcdef", "bcdefg", strict=True)
)

# What is wrong -> (the file, what comes after `file: `)
SHAPES: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "line 1: the file is empty (begin with 'schema: 1'; edgebench init icu-ward makes an example)"),
    "only comments": (
        "# nothing\n",
        "line 1: the file is empty (begin with 'schema: 1'; edgebench init icu-ward makes an example)",
    ),
    "top-level list": ("- a\n", "$: expected a mapping of fields, got a list (begin with 'schema: 1')"),
    "top-level text": ("hello\n", "$: expected a mapping of fields, got a single value (begin with 'schema: 1')"),
    "not UTF-8": (b"schema: 1\nname: caf\xe9\n", "line 2: byte 0xe9 is not UTF-8 (save the file as UTF-8)"),
    "not UTF-8, behind a byte order mark": (
        b"\xef\xbb\xbfschema: 1\nn\xe9: small\n",
        "line 2: byte 0xe9 is not UTF-8 (save the file as UTF-8)",
    ),
    "control character": ("schema: 1\nname: a\x07\n", "line 2: character U+0007 is not allowed in YAML (remove it)"),
    "tab": (edited(("  cloud:", "\tcloud:")), "line 5: a tab where YAML wants spaces (indent with spaces)"),
    "no-break space after a colon": (
        "schema: 1\nname:\u00a0a\nseed: 3\n",
        "line 2: a no-break space (U+00A0), which to YAML is part of a word (remove it, type a space)",
    ),
    "zero-width space in a key": (
        edited(("    task: icu-death", "    task\u200b: icu-death")),
        "line 13: a zero-width space (U+200B), which to YAML is part of a word (remove it, type a space)",
    ),
    "zero-width space in a value": (
        edited(("    task: icu-death", "    task: icu-death\u200b")),
        "line 13: a zero-width space (U+200B), which to YAML is part of a word (remove it, type a space)",
    ),
    "no-break space before a value": (
        edited(("    task: icu-death", "    task: \u00a0icu-death")),
        "line 13: a no-break space (U+00A0), which to YAML is part of a word (remove it, type a space)",
    ),
    "zero-width space within a value": (
        edited(("    task: icu-death", "    task: icu-\u200bdeath")),
        (
            "$.workloads.risk.task: no task 'icu-\\u200bdeath' (did you mean 'icu-death'?),"
            " with a zero-width space (U+200B) in line 13 (remove it)"
        ),
    ),
    "no-break space at the end of a quoted name": (
        edited(("name: small", "name: 'small\u00a0'")),
        f"$.name: 'small\\xa0' {NAME_RULE}, with a no-break space (U+00A0) in line 2 (remove it)",
    ),
    "a machine that is a number": (
        edited((TOP, TOP + "machines: {bed: pi, ward: 7}\n")),
        "$.machines.ward: expected text or a list, got a whole number (7)",
    ),
    "unclosed bracket": ("schema: 1\nname: [a\n", "line 3: expected ',' or ']', but got '<stream end>'"),
    "duplicate key": (edited((TOP, "schema: 1\nname: other\n")), "line 3: key 'name' stands here twice (remove one)"),
    "duplicate node": (
        edited(("  ward:", "  cloud: {tier: cloud}\n  ward:")),
        "line 6: key 'cloud' stands here twice (remove one)",
    ),
    "alias bomb": (BOMB, "line 1: more than 200,000 values, aliases expanded (write less, or fewer aliases)"),
    "self-containing anchor": ("a: &a [*a]\n", "line 1: an anchor that contains itself (write it out)"),
    "deep nesting": ("a: " + "[" * 1000, "line 1: nested too deeply"),
    "second document": (SOUND + "---\n" + SOUND, "line 16: a second document begins (keep one topology a file)"),
    "python tag": (
        "a: !!python/object:os.system x\n",
        "line 1: tag !!python/object:os.system is not supported (remove it)",
    ),
    "merge key": (
        "a: &a {x: 1}\nb:\n  <<: *a\n",
        "line 3: merge keys (<<) are not part of YAML 1.2 (write the fields out)",
    ),
    "not a number": (edited(("duration_s: 10", "duration_s: .nan")), "line 3: .nan is not a finite number"),
    "infinity": (edited(("duration_s: 10", "duration_s: 1e999")), "line 3: 1e999 is not a finite number"),
    "huge file": ("#" * (1 << 20) + "\n", "line 1: larger than 1 MiB (is this a topology?)"),
    "no schema": (edited((TOP, "")), "$: field 'schema' is missing (give 1)"),
    "schema of the future": (edited((TOP, "schema: 2\n")), "$.schema: this version reads schema 1, not 2"),
    "unknown field": (
        edited(("duration_s", "durations_s")),
        "$: unknown field 'durations_s' (did you mean 'duration_s'?)",
    ),
    "unknown field of a node": (
        edited(("bed: {tier: device, count", "bed: {tier: device, cuont")),
        "$.nodes.bed: unknown field 'cuont' (did you mean 'count'?)",
    ),
    "unknown field of a load": (
        edited(("rate_hz: 2", "rate: 2")),
        "$.workloads.risk.load: unknown field 'rate' (did you mean 'rate_hz'?)",
    ),
    "unknown tier": (
        edited(("tier: edge", "tier: egde")),
        "$.nodes.ward.tier: 'egde' is not one of cloud, device, edge (did you mean 'edge'?)",
    ),
    "unknown load": (
        edited(("kind: fixed", "kind: poison")),
        (
            "$.workloads.risk.load.kind: 'poison' is not one of fixed, poisson, trace, single-stream, multi-stream,"
            " server, offline, with, after (did you mean 'poisson'?)"
        ),
    ),
    "load without a kind": (
        edited(("kind: fixed, ", "")),
        (
            "$.workloads.risk.load: field 'kind' is missing (give one of fixed, poisson, trace, single-stream,"
            " multi-stream, server, offline, with, after)"
        ),
    ),
    "node without a tier": (
        edited(("tier: cloud", "")),
        "$.nodes.cloud: field 'tier' is missing (give cloud or device or edge)",
    ),
    "text for a number": (
        edited(("duration_s: 10", "duration_s: '10'")),
        "$.duration_s: expected a number, got text ('10')",
    ),
    "number for text": (edited(("name: small", "name: 7")), "$.name: expected text, got a whole number (7)"),
    "negative latency": (
        edited(("latency_ms: 20", "latency_ms: -20")),
        "$.links[1].latency_ms: -20 is not a number >= 0",
    ),
    "fraction of a node": (
        edited(("count: 3", "count: 2.5")),
        "$.nodes.bed.count: expected a whole number, got a number (2.5)",
    ),
    "no nodes of a group": (edited(("count: 3", "count: 0")), "$.nodes.bed.count: 0 is not a whole number >= 1"),
    "node name": (edited(("  ward:", "  Ward_1:")), f"$.nodes: 'Ward_1' {NAME_RULE}"),
    "name with a line break": (edited(("name: small", 'name: "small\\n"')), f"$.name: 'small\\n' {NAME_RULE}"),
    "link with one end": (
        edited(("[bed, ward]", "[bed]")),
        "$.links[0].between: expected a list of 2 entries, got 1",
    ),
    "no workloads": (SOUND.partition("workloads:")[0] + "workloads: {}\n", "$.workloads: is empty (give at least one)"),
    "a promise at QoS 0": (
        edited((WORKLOAD, WORKLOAD + "    qos: 0\n")) + "durability: power\n",
        ("$.workloads.risk.qos: 0 keeps nothing, and durability 'power' is promised (write 1, or durability: none)"),
    ),
    "a promise where nothing travels": (
        edited((WORKLOAD, WORKLOAD + "    place: {infer: device}\n")) + "durability: process\n",
        "$.durability: 'process' has no effect: no sample travels (remove it)",
    ),
    "no such promise": (
        SOUND + "durability: disk\n",
        "$.durability: 'disk' is not one of none, power, process",
    ),
    "a store that nobody fills": (
        edited((WORKLOAD, WORKLOAD + "    store: {max_mb: 9}\n")),
        (
            "$.workloads.risk.store: has no effect with durability 'none' and nothing placed in the cloud: nobody keeps"
            " anything there (remove one of the two)"
        ),
    ),
    "a store without room": (
        edited((WORKLOAD, WORKLOAD + "    store: {max_mb: 0}\n")),
        "$.workloads.risk.store.max_mb: 0 is not a whole number >= 1",
    ),
    "list for a mapping": (
        edited(("  cloud: {tier: cloud}", "  cloud: [cloud]")),
        "$.nodes.cloud: expected a mapping of fields, got a list",
    ),
    "batch too large": (
        edited((WORKLOAD, WORKLOAD + "    batch: {max_batch: 257}\n")),
        "$.workloads.risk.batch.max_batch: 257 is not a whole number <= 256",
    ),
    "more than a week": (
        edited(("duration_s: 10", "duration_s: 604801")),
        "$.duration_s: 604801 is not a number <= 604800",
    ),
    "rate that no machine has": (
        edited(("rate_hz: 2", "rate_hz: 1e300")),
        "$.workloads.risk.load.rate_hz: 1e+300 is not a number <= 1000000",
    ),
    "rate of next to nothing": (
        edited(("rate_hz: 2", "rate_hz: 1e-300")),
        "$.workloads.risk.load.rate_hz: 1e-300 is not a number >= 1e-06",
    ),
    "too many samples": (
        edited(("{kind: fixed, rate_hz: 2}", "{kind: offline, samples: 10000001}")),
        "$.workloads.risk.load.samples: 10000001 is not a whole number <= 10000000",
    ),
    "latency of minutes": (
        edited(("latency_ms: 2}", "latency_ms: 60001}")),
        "$.links[0].latency_ms: 60001 is not a number <= 60000",
    ),
    "link faster than any": (
        edited(("latency_ms: 2}", "rate_mbit_s: 1e7}")),
        "$.links[0].rate_mbit_s: 10000000.0 is not a number <= 1000000",
    ),
    "epochs without end": (
        edited((WORKLOAD, WORKLOAD + "    train: {epochs: 1000000}\n")),
        "$.workloads.risk.train.epochs: 1000000 is not a whole number <= 100000",
    ),
    "fault after a week": (
        SOUND + "faults: [{at_s: 1e9, kind: kill, node: bed-0}]\n",
        "$.faults[0].at_s: 1000000000.0 is not a number <= 604800",
    ),
}

REFERENCES: dict[str, tuple[str, str]] = {
    "no cloud": (
        edited(
            ("  cloud: {tier: cloud}\n", ""), (", parent: cloud}", "}"), ("[ward, cloud], ", "[bed, ward], ")
        ).replace("  - {between: [bed, ward], latency_ms: 20, jitter_ms: 1}\n", ""),
        (
            "$.nodes: no node of tier cloud (add one: cloud: {tier: cloud})\n"
            "$.nodes.ward: a node of tier edge needs a parent of tier cloud"
        ),
    ),
    "two clouds": (
        edited(("  ward:", "  sky: {tier: cloud}\n  ward:")),
        "$.nodes: 2 groups of tier cloud: cloud, sky (keep one)",
    ),
    "several nodes of the cloud": (
        edited(("{tier: cloud}", "{tier: cloud, count: 2}")),
        "$.nodes.cloud.count: 2 cloud nodes (there is exactly one)",
    ),
    "cloud with a parent": (
        edited(("{tier: cloud}", "{tier: cloud, parent: ward}")),
        "$.nodes.cloud.parent: the cloud has no parent (remove it)",
    ),
    "unknown parent": (
        edited(("parent: ward", "parent: wrad")),
        (
            "$.nodes.bed.parent: no node 'wrad' (did you mean 'ward'?)\n"
            "$.links[0].between: 'ward' is not the parent of 'bed' (links join a node and its parent)"
        ),
    ),
    "no parent": (
        edited((", parent: ward", "")),
        (
            "$.nodes.bed: a node of tier device needs a parent of tier edge (known: ward)\n"
            "$.links[0].between: 'ward' is not the parent of 'bed' (links join a node and its parent)"
        ),
    ),
    "own parent": (
        edited(("parent: cloud", "parent: ward"), ("  - {between: [ward, cloud], latency_ms: 20, jitter_ms: 1}\n", "")),
        "$.nodes.ward.parent: 'ward' cannot be its own parent (name a cloud node)",
    ),
    "circle of edges": (
        edited(
            ("  bed:", "  hall: {tier: edge, parent: ward}\n  bed:"),
            ("parent: cloud", "parent: hall"),
            ("  - {between: [ward, cloud], latency_ms: 20, jitter_ms: 1}\n", ""),
        ),
        (
            "$.nodes.ward.parent: 'hall' is of tier edge, "
            "the parent of a node of tier edge is of tier cloud (known: cloud)\n"
            "$.nodes.hall.parent: 'ward' is of tier edge, "
            "the parent of a node of tier edge is of tier cloud (known: cloud)"
        ),
    ),
    "device below the cloud": (
        edited(("parent: ward", "parent: cloud"), ("[bed, ward]", "[bed, cloud]")),
        (
            "$.nodes.bed.parent: 'cloud' is of tier cloud, "
            "the parent of a node of tier device is of tier edge (known: ward)"
        ),
    ),
    "memory of the cloud": (
        edited(("tier: cloud}", "tier: cloud, memory_mb: 1000}")),
        "$.nodes.cloud.memory_mb: the cloud has what the command's machine has (remove it)",
    ),
    "too little memory": (
        edited(("count: 3,", "count: 3, memory_mb: 1,")),
        "$.nodes.bed.memory_mb: 1 is not a whole number >= 64",
    ),
    "unknown profile": (
        edited(("count: 3,", "count: 3, profile: raspberry-pi-4,")),
        "$.nodes.bed.profile: no profile 'raspberry-pi-4' (write host, a file, or a name edgebench profile has kept)",
    ),
    "colliding names": (
        edited(("  bed:", "  ward-1: {tier: edge, parent: cloud}\n  bed:")),
        "$.nodes.ward-1: its node 'ward-1' has the name of a node of 'ward' (rename one)",
    ),
    "reserved name": (
        edited(("  bed:", "  models: {tier: edge, parent: cloud}\n  bed:")),
        "$.nodes.models: 'models' is reserved (choose another name)",
    ),
    "name too long with its number": (
        edited(("  bed:", f"  {'b' * 62}: {{tier: device, count: 2, parent: ward}}\n  bed:")),
        f"$.nodes.{'b' * 62}: its nodes' names have up to 64 characters, more than 63 (shorten it)",
    ),
    "too many nodes": (
        edited(("count: 3", "count: 1000000000")),
        "$.nodes: 1,000,000,003 nodes, more than 100,000 (lower a count)",
    ),
    "unknown end of a link": (
        edited(("[bed, ward]", "[bed, wrad]")),
        "$.links[0].between[1]: no node 'wrad' (did you mean 'ward'?)",
    ),
    "link the wrong way round": (
        edited(("[bed, ward]", "[ward, bed]")),
        "$.links[0].between: the parent comes second (write [bed, ward])",
    ),
    "link between strangers": (
        edited(("[bed, ward]", "[bed, cloud]")),
        "$.links[0].between: 'cloud' is not the parent of 'bed' (links join a node and its parent)",
    ),
    "link twice": (
        edited(("[ward, cloud]", "[bed, ward]")),
        "$.links[1].between: joins what $.links[0] joins already (remove one)",
    ),
    "rate and rate up": (
        edited(("latency_ms: 2}", "latency_ms: 2, rate_mbit_s: 5, up_mbit_s: 1}")),
        "$.links[0].rate_mbit_s: is both directions at once (give it alone, or up_mbit_s and down_mbit_s)",
    ),
    "more jitter than latency": (
        edited(("jitter_ms: 1", "jitter_ms: 20.5")),
        "$.links[1].jitter_ms: 20.5 ms of jitter around a latency of 20 ms (must not be larger)",
    ),
    "a kind of link whose energy nobody published": (
        edited(("jitter_ms: 1", "energy: wfi")),
        "$.links[1].energy: 'wfi' is not one of lte, wifi (did you mean 'wifi'?)",
    ),
    "the memory of no profile": (
        edited(("count: 3,", "count: 3, memory_mb: profile,")),
        "$.nodes.bed.memory_mb: that of its profile, and that is host (give a profile, or the memory in MB)",
    ),
    "a memory in words": (
        edited(("count: 3,", "count: 3, memory_mb: all,")),
        "$.nodes.bed.memory_mb: 'all' is not one of profile, a whole number",
    ),
    "an energy without a source": (
        edited(("jitter_ms: 1", "energy: {up_nj_per_byte: 1, down_nj_per_byte: 1, source: ''}")),
        "$.links[1].energy.source: is empty (write something)",
    ),
    "an energy of one way alone": (
        edited(("jitter_ms: 1", "energy: {up_nj_per_byte: 1, source: here}")),
        "$.links[1].energy: field 'down_nj_per_byte' is missing",
    ),
    "a jitter's kind without jitter": (
        edited(("jitter_ms: 1", "jitter: pareto")),
        "$.links[1].jitter: has no effect without jitter_ms (give it, or remove this)",
    ),
    "an outage that does nothing": (
        edited(("latency_ms: 2}", "outages: [{at_s: 2}]}")),
        "$.links[0].outages[0]: does nothing (say for_s, for how long, or reset: true)",
    ),
    "an outage after the run": (
        edited(("latency_ms: 2}", "outages: [{at_s: 2000, reset: true}]}")),
        "$.links[0].outages[0].at_s: 2000 s is not within the run of 10 s (make it sooner, or raise duration_s)",
    ),
    "outages that overlap": (
        edited(
            (
                "latency_ms: 2}",
                "outages: [{at_s: 6, reset: true}, {at_s: 1, for_s: 1, every_s: 2}, {at_s: 2, for_s: 4}]}",
            )
        ),
        "$.links[0].outages: that at 3 s begins before that at 2 s has ended (part them)",
    ),
    "an outage that comes again before it is over": (
        edited(("latency_ms: 2}", "outages: [{at_s: 2, for_s: 3, every_s: 3}]}")),
        "$.links[0].outages[0].every_s: begins again after 3 s, before it has ended (must be more than for_s)",
    ),
    "more normal jitter than a third of the latency": (
        edited(("jitter_ms: 1", "jitter_ms: 7, jitter: normal")),
        "$.links[1].jitter_ms: 7 ms of normal jitter around a latency of 20 ms (at most 6.667)",
    ),
    "unknown task": (
        edited(("icu-death", "icu-deaths")),
        "$.workloads.risk.task: no task 'icu-deaths' (did you mean 'icu-death'?)",
    ),
    "task with a line break": (
        edited(("icu-death", '"icu-\\ndeath"')),
        "$.workloads.risk.task: no task 'icu-\\ndeath' (did you mean 'icu-death'?)",
    ),
    "unlike any task": (edited(("icu-death", "lunch")), f"$.workloads.risk.task: no task 'lunch' {TASKS}"),
    "unknown source": (
        edited(("source: bed", "source: bet")),
        "$.workloads.risk.source: no node 'bet' (did you mean 'bed'?)",
    ),
    "source that is no device": (
        edited(("source: bed", "source: [bed, ward]")),
        "$.workloads.risk.source[1]: 'ward' is of tier edge (name a group of tier device)",
    ),
    "source twice": (
        edited(("source: bed", "source: [bed, bed]")),
        "$.workloads.risk.source[1]: 'bed' stands here twice (remove one)",
    ),
    "no source": (
        edited(("source: bed", "source: []")),
        "$.workloads.risk.source: is empty (name at least one group of devices)",
    ),
    "roll-out after the end": (
        edited((WORKLOAD, WORKLOAD + "    rollout: [{at_s: 10}]\n")),
        "$.workloads.risk.rollout[0].at_s: 10 s is not within the run of 10 s (make it sooner, or raise duration_s)",
    ),
    "keras and dynamic": (
        edited((WORKLOAD, WORKLOAD + "    model: {runtime: keras, quantisation: dynamic}\n")),
        "$.workloads.risk.model.quantisation: the keras runtime runs float32 only, not dynamic (or use litert)",
    ),
    "bad digest": (
        edited((WORKLOAD, WORKLOAD + "    model: {source: 'sha256:ab'}\n")),
        "$.workloads.risk.model.source: 'sha256:ab' is no digest (write sha256: and 64 digits of 0-9 a-f)",
    ),
    "a load that follows nobody": (
        edited(("load: {kind: fixed, rate_hz: 2}", "load: {kind: with, workload: rsik}")),
        "$.workloads.risk.load: no workload 'rsik' (did you mean 'risk'?)",
    ),
    "a load that follows itself": (
        edited(("load: {kind: fixed, rate_hz: 2}", "load: {kind: after, workloads: [risk]}")),
        "$.workloads.risk.load: waits for itself in the end (give one of the workloads a load of its own)",
    ),
    "loads that wait for each other beside others": (
        SOUND
        + "  more: {task: icu-death, source: bed, load: {kind: after, workloads: [risk, most]}}\n"
        + "  most: {task: icu-death, source: bed, load: {kind: after, workloads: [risk, more]}}\n"
        + "joint: {all: {of: [more, most]}}\n",
        (
            "$.workloads.more.load: waits for itself in the end (give one of the workloads a load of its own)\n"
            "$.workloads.most.load: waits for itself in the end (give one of the workloads a load of its own)"
        ),
    ),
    "a placement that leaves devices out": (
        edited((WORKLOAD, WORKLOAD + "    place: {infer: {bed-1: device}}\n")),
        (
            "$.workloads.risk.place.infer: does not say where bed-0, bed-2 of 'bed' is decided (name each of them, or"
            " the group)"
        ),
    ),
    "a placement that is empty": (
        edited((WORKLOAD, WORKLOAD + "    place: {infer: {}}\n")),
        (
            "$.workloads.risk.place.infer: does not say where bed-0, bed-1, bed-2 of 'bed' is decided (name each of"
            " them, or the group)"
        ),
    ),
    "a placement of what there is not, or is no source": (
        edited((WORKLOAD, WORKLOAD + "    place: {infer: {bed: edge, bed-7: device, ward-0: cloud, ward: edge}}\n")),
        (
            "$.workloads.risk.place.infer.bed-7: no node 'bed-7' (did you mean 'bed-2'?)\n"
            "$.workloads.risk.place.infer.ward-0: 'ward-0' is no source of this workload (known: bed, bed-0, bed-1,"
            " bed-2)\n"
            "$.workloads.risk.place.infer.ward: 'ward' is no source of this workload (known: bed, bed-0, bed-1, bed-2)"
        ),
    ),
    "a placement of a group that none of its devices follows": (
        edited((WORKLOAD, WORKLOAD + "    place: {infer: {bed: edge, bed-0: edge, bed-1: cloud, bed-2: device}}\n")),
        (
            "$.workloads.risk.place.infer.bed: has no effect, since each of its devices is named too (remove one of the"
            " two)"
        ),
    ),
    "a cascade for some devices only": (
        edited((WORKLOAD, WORKLOAD + "    place: {infer: {bed: edge, bed-0: cascade}}\n")),
        (
            "$.workloads.risk.place.infer: has a cascade beside other tiers, whose model could be either of its two"
            " (use cascade for all, or none)"
        ),
    ),
    "a tier that there is not, for a device": (
        edited((WORKLOAD, WORKLOAD + "    place: {infer: {bed: edge, bed-0: clowd}}\n")),
        (
            "$.workloads.risk.place.infer.bed-0: 'clowd' is not one of cascade, cloud, device, edge (did you mean"
            " 'cloud'?)"
        ),
    ),
    "a tier that there is not": (
        edited((WORKLOAD, WORKLOAD + "    place: {infer: roof}\n")),
        "$.workloads.risk.place.infer: 'roof' is not one of cascade, cloud, device, edge",
    ),
    "a cascade of one model": (
        edited((WORKLOAD, WORKLOAD + "    place: {infer: cascade}\n    model: {size: heavy}\n")),
        "$.workloads.risk.cascade: asks the same model again that was unsure (give it another size or number format)",
    ),
    "a load that follows a closed loop": (
        edited(("load: {kind: fixed, rate_hz: 2}", "load: {kind: single-stream}"))
        + "  more: {task: icu-death, source: bed, load: {kind: with, workload: risk}}\n",
        (
            "$.workloads.more.load: follows 'risk', whose load 'single-stream' has no times to follow"
            " (use fixed, poisson, trace or server)"
        ),
    ),
    "a joint decision of workloads with loads of their own": (
        SOUND
        + "  more: {task: icu-death, source: bed, load: {kind: fixed, rate_hz: 1}}\n"
        + "joint: {both: {of: [risk, more]}, one: {of: [risk]}, none: {of: [risk, mroe]}}\n",
        (
            "$.joint.both.of: follows both 'more' and 'risk', whose samples are not of the same frames"
            " (give one a load {kind: with, workload: more})\n"
            "$.joint.one.of: is made of fewer than two workloads (name at least two)\n"
            "$.joint.none.of[1]: no workload 'mroe' (did you mean 'more'?)"
        ),
    ),
    "moves that cannot be": (
        SOUND
        + "moves: [{at_s: 1, node: bde-0, to: ward-1}, {at_s: 2, node: ward-0, to: bed-1},"
        + " {at_s: 3, node: bed-0, to: ward-0}, {at_s: 10, node: bed-1, to: ward-0}]\n",
        (
            "$.moves[0].node: no node 'bde-0' (did you mean 'bed-0'?)\n"
            "$.moves[1].node: 'ward-0' is of tier edge (name one of tier device)\n"
            "$.moves[1].to: 'bed-1' is of tier device (name one of tier edge)\n"
            "$.moves[2].to: 'bed-0' is at 'ward-0' then already (name another edge, or remove it)\n"
            "$.moves[3].at_s: 10 s is not within the run of 10 s (make it sooner, or raise duration_s)"
        ),
    ),
    "a move where all sites are one": (
        SOUND + "broker: {url: 'mqtt://localhost'}\nmoves: [{at_s: 1, node: bed-0, to: ward-1}]\n",
        "$.moves: a site is where a broker is, and broker.url is the same for all (remove one of the two)",
    ),
    "a move of a client of a federation": (
        SOUND + "federated: [{workload: risk, rounds: 1}]\nmoves: [{at_s: 1, node: bed-0, to: ward-1}]\n",
        "$.moves[0].node: 'bed-0' learns federatedly, and stays at its site (remove one of the two)",
    ),
    "machines that cannot be": (
        SOUND + "machines: {bde: pi, cloud: pi, bed: [], bed-1: [pi, po], ward: [a, b, c]}\n",
        (
            "$.machines.bde: no node 'bde' (did you mean 'bed'?)\n"
            "$.machines.cloud: the cloud is where the command runs (remove the entry, or run the command there)\n"
            "$.machines.bed: is empty (name at least one machine, or here)\n"
            "$.machines.bed-1: no node is left for po, of the one node (name no more machines than nodes)\n"
            "$.machines.ward: no node is left for c, of its 2 nodes (name no more machines than nodes)"
        ),
    ),
    "machines of a group whose nodes are all named": (
        SOUND + "machines: {ward: pi, ward-0: po, ward-1: po}\n",
        "$.machines.ward: has no effect, since each of its nodes is named too (remove one of the two)",
    ),
    "machines on the local executor": (
        SOUND + "machines: {ward: pi}\n",
        "$.machines: the local executor cannot enforce other machines (remove it, or use --executor lab)",
    ),
    "a cascade's model without a cascade": (
        edited((WORKLOAD, WORKLOAD + "    cascade: {size: heavy}\n")),
        "$.workloads.risk.cascade: has no effect without place.infer 'cascade' (remove one of the two)",
    ),
    "a cascade of models that are not trained": (
        edited((WORKLOAD, WORKLOAD + "    place: {infer: cascade}\n    model: {runtime: fake}\n")),
        (
            "$.workloads.risk.place.infer: a cascade is calibrated for two models that it trains, and one of runtime"
            " 'fake' learns nothing (use litert, keras or onnx)"
        ),
    ),
    "a cascade with a roll-out": (
        edited((WORKLOAD, WORKLOAD + "    place: {infer: cascade}\n    rollout: [{at_s: 1}]\n")),
        (
            "$.workloads.risk.place.infer: a cascade is calibrated for two models that it trains, and a roll-out would"
            " replace one of them (remove rollout)"
        ),
    ),
    "a chain that says nothing of its stages": (
        edited((WORKLOAD, WORKLOAD + "    place: {infer: [edge, cloud]}\n")),
        (
            "$.workloads.risk.place.infer: does not say what the two stages are (set split, which cuts the model in"
            " two, or head, a model before it)"
        ),
    ),
    "a chain the other way round": (
        edited((WORKLOAD, WORKLOAD + "    place: {infer: [cloud, edge]}\n    split: 1\n")),
        (
            "$.workloads.risk.place.infer: a chain goes from a tier to one above it (write [device, edge] or [device,"
            " cloud] or [edge, cloud])"
        ),
    ),
    "a chain that begins on devices, of pictures": (
        edited((WORKLOAD, WORKLOAD + "    place: {infer: [device, edge]}\n    split: 1\n    compress: {kind: jpeg}\n")),
        "$.workloads.risk.compress: what the first stage gives on a device is no picture (remove it)",
    ),
    "a chain that begins on devices, of samples that are kept": (
        edited((WORKLOAD, WORKLOAD + FROM_DEVICES)) + "durability: process\n",
        (
            "$.workloads.risk.place.infer: what a device sends is what its first stage gives, and durability 'process'"
            " is promised of samples as they were sensed (begin at the edge)"
        ),
    ),
    "a chain that begins on devices, where samples may not go": (
        edited((WORKLOAD, WORKLOAD + "    place: {infer: [device, cloud]}\n    split: 1\n"))
        + "place: {allow: [device, edge]}\n",
        "$.workloads.risk.place.infer: 'chain' is not within place.allow: device, edge (change one of them)",
    ),
    "a store where nobody keeps anything": (
        edited((WORKLOAD, WORKLOAD + "    place: {infer: [device, edge]}\n    split: 1\n    store: {max_mb: 5}\n")),
        (
            "$.workloads.risk.store: has no effect with durability 'none' and nothing placed in the cloud: nobody keeps"
            " anything there (remove one of the two)"
        ),
    ),
    "a chain of three": (
        edited((WORKLOAD, WORKLOAD + "    place: {infer: [device, edge, cloud]}\n    split: 1\n")),
        "$.workloads.risk.place.infer: expected a list of 2 entries, got 3",
    ),
    "a split model that is decided at one place": (
        edited((WORKLOAD, WORKLOAD + "    split: auto\n")),
        (
            "$.workloads.risk.split: has no effect without two stages in place.infer (write [device, edge] or [device,"
            " cloud] or [edge, cloud] there, or remove it)"
        ),
    ),
    "a split at a place that there cannot be": (
        edited((WORKLOAD, WORKLOAD + "    place: {infer: [edge, cloud]}\n    split: 0\n")),
        "$.workloads.risk.split: 0 is not a whole number >= 1",
    ),
    "a split model that learns nothing": (
        edited((WORKLOAD, WORKLOAD + CHAIN + "    model: {runtime: fake}\n")),
        (
            "$.workloads.risk.model.runtime: a model is cut once it is trained, with Keras: its parts run by litert"
            " or keras, not fake"
        ),
    ),
    "a split model in whole numbers": (
        edited((WORKLOAD, WORKLOAD + CHAIN + "    model: {quantisation: int8}\n")),
        (
            "$.workloads.risk.model.quantisation: nothing tells the ranges of what goes on between two parts (write"
            " float32, float16 or dynamic)"
        ),
    ),
    "a split model with a roll-out": (
        edited((WORKLOAD, WORKLOAD + CHAIN + "    rollout: [{at_s: 1}]\n")),
        (
            "$.workloads.risk.rollout: a model is cut once it is trained, and a roll-out would replace one of its"
            " parts (remove it)"
        ),
    ),
    "a split model that is learned": (
        edited((WORKLOAD, WORKLOAD + CHAIN)) + "federated: [{workload: risk, rounds: 1}]\n",
        (
            "$.workloads.risk.place.infer: a model is cut once it is trained, and federated learning would replace"
            " it (use device, edge or cloud)"
        ),
    ),
    "two first stages": (
        edited((WORKLOAD, WORKLOAD + CHAIN + "    head: {task: occupancy}\n")),
        "$.workloads.risk.head: split says already what the first stage is (remove one of the two)",
    ),
    "a first stage of a task that there is not": (
        edited((WORKLOAD, WORKLOAD + "    place: {infer: [edge, cloud]}\n    head: {task: icu-deaht}\n")),
        "$.workloads.risk.head.task: no task 'icu-deaht' (did you mean 'icu-death'?)",
    ),
    "a first stage that means nothing": (
        edited(
            (WORKLOAD, WORKLOAD + "    place: {infer: [edge, cloud]}\n    head: {task: icu-death, runtime: fake}\n")
        ),
        (
            "$.workloads.risk.head.runtime: what a model of runtime 'fake' gives means nothing (use litert, keras or"
            " onnx)"
        ),
    ),
    "a chain to where samples may not go": (
        edited((WORKLOAD, WORKLOAD + CHAIN)) + "place: {allow: [device, edge]}\n",
        "$.workloads.risk.place.infer: 'chain' is not within place.allow: device, edge (change one of them)",
    ),
    "a cascade that is to be moved while a run goes on": (
        edited((WORKLOAD, WORKLOAD + "    place: {infer: cascade}\n")) + "place: {online: {}}\n",
        (
            "$.workloads.risk.place.infer: 'cascade' is not moved while a run goes on (write edge or cloud, or remove"
            " place.online)"
        ),
    ),
    "a chain that is to be moved": (
        edited((WORKLOAD, WORKLOAD + CHAIN)) + "place: {online: {}}\n",
        (
            "$.workloads.risk.place.infer: a chain is not moved while a run goes on (write edge or cloud, or remove"
            " place.online)"
        ),
    ),
    "a site in two places that is to be moved": (
        edited((WORKLOAD, WORKLOAD + "    place: {infer: {bed: edge, bed-0: cloud}}\n")) + "place: {online: {}}\n",
        (
            "$.workloads.risk.place.infer: with place.online a site has all its samples at one place (write edge or"
            " cloud)"
        ),
    ),
    "nothing to move between": (
        SOUND + "place: {allow: [device, edge], online: {}}\n",
        (
            "$.place.online: moves workloads between edge and cloud, and place.allow has device, edge (allow both, or"
            " remove it)"
        ),
    ),
    "a gain of all there is": (
        SOUND + "place: {online: {gain: 1}}\n",
        "$.place.online.gain: 1 is not a number < 1",
    ),
    "a cascade's model in a form that there is not": (
        edited(
            (
                WORKLOAD,
                WORKLOAD + "    place: {infer: cascade}\n    cascade: {runtime: keras, quantisation: int8}\n",
            )
        ),
        "$.workloads.risk.cascade.quantisation: the keras runtime runs float32 only, not int8 (or use litert)",
    ),
    "batches and QoS on a device": (
        edited(
            (
                WORKLOAD,
                WORKLOAD
                + "    place: {infer: device}\n    batch: {max_batch: 4}\n    qos: 0\n    compress: {kind: jpeg}\n",
            )
        ),
        (
            "$.workloads.risk.batch: has no effect with place.infer 'device':"
            " a device decides its samples one by one (remove one of the two)\n"
            "$.workloads.risk.compress: has no effect with place.infer 'device': no sample travels"
            " (remove one of the two)\n"
            "$.workloads.risk.qos: has no effect with place.infer 'device': no sample travels (remove one of the two)"
        ),
    ),
    "a named model and the choice of another": (
        edited((WORKLOAD, WORKLOAD + f"    model: {{size: heavy, runtime: keras, source: '{DIGEST}'}}\n")),
        (
            f"$.workloads.risk.model.size: has no effect with model.source '{DIGEST}' (remove one of the two)\n"
            f"$.workloads.risk.model.runtime: has no effect with model.source '{DIGEST}' (remove one of the two)"
        ),
    ),
    "a named model and a number format": (
        edited((WORKLOAD, WORKLOAD + f"    model: {{quantisation: int8, source: '{DIGEST}'}}\n")),
        f"$.workloads.risk.model.quantisation: has no effect with model.source '{DIGEST}' (remove one of the two)",
    ),
    "a fake model that is to learn": (
        edited(
            (
                WORKLOAD,
                WORKLOAD
                + "    model: {runtime: fake, size: heavy, quantisation: int8}\n"
                + "    train: {examples: 5}\n    rollout: [{at_s: 1}]\n",
            )
        ),
        (
            "$.workloads.risk.model.size: has no effect with model.runtime 'fake' (remove one of the two)\n"
            "$.workloads.risk.model.quantisation: has no effect with model.runtime 'fake' (remove one of the two)\n"
            "$.workloads.risk.train: has no effect with model.runtime 'fake' (remove one of the two)\n"
            "$.workloads.risk.rollout[0]: rolls a trained model out,"
            " but a model of runtime 'fake' learns nothing (remove one of the two)"
        ),
    ),
    "fault on an unknown link": (
        SOUND + "faults: [{at_s: 1, kind: down, link: ward-2 -> cloud}]\n",
        "$.faults[0].link: no link 'ward-2 -> cloud' (did you mean 'ward-1 -> cloud'?)",
    ),
    "fault on a node that is not there": (
        SOUND + "faults: [{at_s: 1, kind: kill, node: wrad-0}]\n",
        "$.faults[0].node: no node 'wrad-0' (did you mean 'ward-0'?)",
    ),
    "fault on a group": (
        SOUND + "faults: [{at_s: 1, kind: kill, node: bed}]\n",
        "$.faults[0].node: 'bed' is a group (name one of bed-0 to bed-2; an entry of chaos may name a group)",
    ),
    "fault on both": (
        SOUND + "faults: [{at_s: 1, kind: kill, node: bed-0, link: ward-0 -> cloud}]\n",
        "$.faults[0]: names a link and a node (name a node or a site or a broker or a machine)",
    ),
    "fault on nothing": (
        SOUND + "faults: [{at_s: 12, kind: kill}]\n",
        (
            "$.faults[0].at_s: 12 s is not within the run of 10 s (make it sooner, or raise duration_s)\n"
            "$.faults[0]: names nothing (name a node or a site or a broker or a machine)"
        ),
    ),
    "killed link": (
        SOUND + "faults: [{at_s: 1, kind: kill, link: ward-0 -> cloud}]\n",
        "$.faults[0].kind: 'kill' is for a node or a site or a broker or a machine, not for a link",
    ),
    "federation of an unknown workload": (
        SOUND + "federated: [{workload: rsik, rounds: 2}]\n",
        "$.federated[0].workload: no workload 'rsik' (did you mean 'risk'?)",
    ),
    "aggregation that does not reach the cloud": (
        SOUND + "federated: [{workload: risk, rounds: 2, aggregate: [edge]}]\n",
        "$.federated[0].aggregate: [edge] cannot be (write [cloud] or [edge, cloud])",
    ),
    "listening beyond loopback": (
        SOUND + "broker: {listen: 0.0.0.0}\n",
        (
            "$.broker.listen: '0.0.0.0' is not 127.0.0.1, and the embedded broker has no encryption"
            " (use 127.0.0.1, or give broker.url)"
        ),
    ),
    "kind of a broker that exists": (
        SOUND + "broker: {kind: nats, url: 'mqtt://host'}\n",
        "$.broker.kind: has no effect with broker.url (remove one of the two)",
    ),
    "broker by HTTP": (
        SOUND + "broker: {url: 'http://ann:secret@host'}\n",
        f"$.broker.url: the scheme is neither mqtt nor mqtts {URL_FORM}",
    ),
    "broker with a bad port": (
        SOUND + "broker: {url: 'mqtt://ann@host:70000'}\n",
        f"$.broker.url: the host or port cannot be read {URL_FORM}",
    ),
    "broker with a password": (
        SOUND + "broker: {url: 'mqtt://ann:secret@host'}\n",
        (
            "$.broker.url: holds a password, and a run directory keeps the topology as it is: give the URL by --broker"
            f" instead {URL_FORM}"
        ),
    ),
    "broker with a password that would end its URL": (
        SOUND + "broker: {url: 'mqtt://ann:s#cret/@host'}\n",
        (
            "$.broker.url: holds a password, and a run directory keeps the topology as it is: give the URL by --broker"
            f" instead {URL_FORM}"
        ),
    ),
    "broker with a user who would end its URL": (
        SOUND + "broker: {url: 'mqtt://a#n@host'}\n",
        f"$.broker.url: a '#' in the user ends it there: write %23 for it {URL_FORM}",
    ),
    "broker without a host": (SOUND + "broker: {url: 'mqtt://:1883'}\n", f"$.broker.url: no host {URL_FORM}"),
}

NOT_LOCAL: dict[str, tuple[str, str]] = {
    "memory": (
        edited(("count: 3,", "count: 3, memory_mb: 100,")),
        (
            "$.nodes.bed.memory_mb: the local executor cannot enforce a limit of memory"
            " (remove it, or use --executor containers)"
        ),
    ),
    "faults of machines": (
        SOUND + "faults: [{at_s: 1, kind: kill, machine: pi}]\n",
        (
            "$.faults[0].machine: the local executor cannot enforce fault 'kill' of a machine"
            " (name a node or a site, or use --executor lab or containers)"
        ),
    ),
}

BROKEN = SHAPES | REFERENCES | {f"local executor: {name}": case for name, case in NOT_LOCAL.items()}


@pytest.mark.parametrize("wrong", BROKEN)
def test_each_mistake_is_one_line_with_file_and_path_and_exit_status_2(
    wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, problems = BROKEN[wrong]
    file = tmp_path / "broken.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)

    status = main(["validate", str(file)])

    out, err = capsys.readouterr()
    assert err == "".join(f"{file}: {problem}\n" for problem in problems.split("\n"))
    assert (status, out) == (2, "")


def test_all_cross_reference_mistakes_are_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(
        edited(
            ("parent: ward", "parent: wrad"), ("jitter_ms: 1", "jitter_ms: 21"), ("task: icu-death", "task: icu-deth")
        )
        + "broker: {url: tcp://host}\n"
    )

    assert main(["validate", str(file)]) == 2

    paths = [line.removeprefix(f"{file}: ").partition(": ")[0] for line in capsys.readouterr().err.splitlines()]
    assert paths == [
        "$.nodes.bed.parent",
        "$.links[0].between",
        "$.links[1].jitter_ms",
        "$.workloads.risk.task",
        "$.broker.url",
    ]


def test_what_cannot_be_seen_in_a_value_that_an_override_replaced_is_not_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "unseen.yaml"
    file.write_text(
        edited(("    task: icu-death", "    task: icu-\u200bdeath"), ("name: small", "name: small\ndata: da\u200bta"))
    )
    assert main(["validate", str(file), "--set", "workloads.risk.task=icu-deaths"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"{file}: $.data: no folder {tmp_path}/da\\u200bta, with a zero-width space (U+200B) in line 3 (remove it)",
        f"{file}: $.workloads.risk.task: no task 'icu-deaths' (did you mean 'icu-death'?)",
    ]


def test_a_document_with_what_cannot_be_seen_is_read_once_for_all_its_problems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "unseen.yaml"
    file.write_text(edited(("    task: icu-death", "    task: icu-\u200bdeath"), ("source: bed", "source: [bad, bet]")))
    topology = load(file)
    read: list[str] = []
    new_loader = strict_yaml._new_loader

    def counted(text: str) -> strict_yaml._Loader:
        read.append(text)
        return new_loader(text)

    monkeypatch.setattr(strict_yaml, "_new_loader", counted)
    with pytest.raises(TopologyError) as caught:
        check(topology, file, tasks=names())
    assert str(caught.value).count("\n") >= 2
    assert len(read) == 1


def test_a_password_in_a_broken_broker_url_is_not_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(SOUND + "broker: {url: 'mqtt://ann:s3cret/x@host:1883'}\n")

    assert main(["validate", str(file)]) == 2
    assert "s3cret" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("trace", "problem"),
    [
        (None, "no such file"),
        ("", "no times in it (write one time in s a line)"),
        ("0\n1\nsoon\n", "line 3: 'soon' is no number (write a time in s)"),
        ("0\n2\n# then\n1.5\n", "line 4: 1.5 comes after 2 (sort the times)"),
        ("-1\n", "line 1: -1 is not a time ≥ 0"),
        ("nan\n", "line 1: nan is not a time ≥ 0"),
        (b"\xef\xbb\xbf0\n1\n\xe9\n", "line 3: a byte that is no UTF-8 (write one time in s a line)"),
        (b"0\n1\n\xe9\n", "line 3: a byte that is no UTF-8 (write one time in s a line)"),
    ],
)
def test_a_broken_trace_is_found_before_the_run(
    trace: str | bytes | None, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "traced.yaml"
    file.write_text(edited(("{kind: fixed, rate_hz: 2}", "{kind: trace, file: times.txt}")))
    if trace is not None:
        (tmp_path / "times.txt").write_bytes(trace.encode() if isinstance(trace, str) else trace)

    assert main(["validate", str(file)]) == 2
    expected = f"{file}: $.workloads.risk.load.file: {tmp_path / 'times.txt'}: {problem}\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    ("given", "shown"), [("~no-such-user/x.json", "~no-such-user/x.json"), (r'"a\0b.json"', r"a\x00b.json")]
)
@pytest.mark.parametrize(
    ("place", "change"),
    [
        ("$.data", (TOP, TOP + "data: PATH\n")),
        ("$.jobs", (TOP, TOP + "jobs: PATH\n")),
        ("$.nodes.ward.profile", ("count: 2,", "count: 2, profile: PATH,")),
        ("$.links[0].rate_trace", ("latency_ms: 2}", "rate_trace: PATH}")),
        ("$.links[0].outage_trace", ("latency_ms: 2}", "outage_trace: PATH}")),
        ("$.workloads.risk.load.file", ("{kind: fixed, rate_hz: 2}", "{kind: trace, file: PATH}")),
        ("$.workloads.risk.model.source", (WORKLOAD, WORKLOAD + "    model: {source: PATH}\n")),
        ("$.faults[0].trace", (TOP, TOP + "faults: [{kind: pause, trace: PATH}]\n")),
        ("$.federated[0].app", (TOP, TOP + "federated: [{workload: risk, app: PATH}]\n")),
    ],
)
def test_a_path_of_nobodys_or_that_cannot_be_is_one_line_too(
    place: str,
    change: tuple[str, str],
    given: str,
    shown: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(edited((change[0], change[1].replace("PATH", given))))

    assert main(["validate", str(file)]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith(f"{file}: {place}: ")]
    assert len(said) == 1
    assert f"{tmp_path}/{shown}" in said[0]


def test_a_model_file_must_exist_and_is_sought_beside_the_topology(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "placed.yaml"
    file.write_text(edited((WORKLOAD, WORKLOAD + "    model: {source: death.tflite}\n")))

    assert main(["validate", str(file)]) == 2
    assert capsys.readouterr().err == (
        f"{file}: $.workloads.risk.model.source: no model file {tmp_path / 'death.tflite'}"
        " (write train, a path, or sha256:<hex>)\n"
    )

    (tmp_path / "death.tflite").write_bytes(b"model")
    assert main(["validate", str(file)]) == 2
    place = f"{file}: $.workloads.risk.model.source: {tmp_path / 'death.tflite'}: "
    assert capsys.readouterr().err.startswith(f"{place}is no LiteRT model that runs here: ")


def test_a_roll_out_wants_a_model_that_is_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "broken.yaml"
    digest = f"sha256:{'0' * 64}"
    extra = f"    model: {{source: '{digest}'}}\n    rollout: [{{at_s: 1}}]\n    train: {{epochs: 2}}\n"
    file.write_text(edited((WORKLOAD, WORKLOAD + extra)))

    assert main(["validate", str(file)]) == 2
    assert capsys.readouterr().err == (
        f"{file}: $.workloads.risk.train: has no effect with model.source '{digest}' (remove one of the two)\n"
        f"{file}: $.workloads.risk.rollout[0]: rolls a trained model out,"
        f" but model.source is '{digest}' (set it to train)\n"
    )


def test_a_missing_file_is_named_with_a_suggestion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "icu-ward.yaml").write_text(SOUND)

    assert main(["validate", str(tmp_path / "icu-wrad.yaml")]) == 2
    assert capsys.readouterr().err == f"{tmp_path}/icu-wrad.yaml: no such file (did you mean 'icu-ward.yaml'?)\n"
    assert main(["validate", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"{tmp_path}: is a folder (name a topology file in it)\n"


@pytest.mark.parametrize(
    ("executor", "problem"),
    [
        ("container", "--executor container: no such executor (did you mean 'containers'?)"),
        ("locale", "--executor locale: no such executor (did you mean 'local'?)"),
    ],
)
def test_an_executor_that_there_is_not_is_refused_by_name(
    executor: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(SOUND)

    assert main(["validate", str(file), "--executor", executor]) == 2
    assert capsys.readouterr().err == f"{problem}\n"


@pytest.mark.parametrize("wrong", ["unknown field of a node", "alias bomb", "deep nesting", "colliding names"])
def test_the_installed_command_says_the_same_without_a_traceback(wrong: str, tmp_path: Path) -> None:
    text, problem = BROKEN[wrong]
    assert isinstance(text, str)
    file = tmp_path / "broken.yaml"
    file.write_text(text)

    run = subprocess.run(
        [sys.executable, "-m", "edgebench.cli", "validate", str(file)], capture_output=True, text=True, timeout=60
    )

    assert (run.returncode, run.stdout, run.stderr) == (2, "", f"{file}: {problem}\n")


def test_a_reader_that_goes_away_is_no_error() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)

    run = subprocess.run(
        [sys.executable, "-m", "edgebench.cli", "schema"],
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(write_end)

    assert (run.returncode, run.stderr) == (0, "")


def test_containers_refuse_machines_and_brokers_of_a_users_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(SOUND + "machines: {bed-0: pi}\nbroker: {url: 'mqtts://broker:8883'}\n")

    assert main(["validate", str(file), "--executor", "containers"]) == 2
    assert capsys.readouterr().err == (
        f"{file}: $.machines: the containers executor cannot enforce other machines"
        " (remove it, or use --executor lab)\n"
        f"{file}: $.broker.url: the containers executor cannot enforce a broker of your own, which containers cannot"
        " reach (leave it out)\n"
    )
