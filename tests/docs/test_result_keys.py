"""The keys of `result.json` and the columns of `records.parquet`, as docs/results.md lists them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa

from edgebench.results.figures import Result
from edgebench.results.rundir import records_schema
from tests.conftest import ROOT


def keys_of(kind: Any, seen: set[Any]) -> Iterator[str]:
    """The keys of a type and of all that it holds."""
    match kind:
        case msgspec.inspect.StructType(cls=cls, fields=fields):
            if cls not in seen:
                seen.add(cls)
                for field in fields:
                    yield f"{cls.__name__}.{field.encode_name}"
                    yield from keys_of(field.type, seen)
        case msgspec.inspect.UnionType(types=types):
            for each in types:
                yield from keys_of(each, seen)
        case msgspec.inspect.DictType(value_type=value):
            yield from keys_of(value, seen)
        case msgspec.inspect.ListType(item_type=item) | msgspec.inspect.VarTupleType(item_type=item):
            yield from keys_of(item, seen)
        case msgspec.inspect.TupleType(item_types=items):
            for each in items:
                yield from keys_of(each, seen)


def test_every_key_of_result_json_is_listed() -> None:
    text = (ROOT / "docs" / "results.md").read_text()
    listing = text.partition("## `result.json`, schema 1")[2].split("```")[1]
    words = set(re.findall(r"\w+", listing))
    keys = list(keys_of(msgspec.inspect.type_info(Result), set()))
    assert len(keys) > 150
    assert [key for key in keys if key.partition(".")[2] not in words] == []


def shown(name: str, kind: pa.DataType) -> str:
    """The type and the unit of a column, as the page has them."""
    unit = {"ns": ", ns", "bytes": ", bytes"}.get(name.rpartition("_")[2], "")
    if pa.types.is_dictionary(kind):
        return "text"
    return f"{'list of float32' if pa.types.is_list(kind) else kind}{unit}"


def test_every_column_of_records_parquet_is_listed_in_its_order_with_type_and_unit() -> None:
    text = (ROOT / "docs" / "results.md").read_text()
    rows = text.partition("| column | type | what |\n|---|---|---|\n")[2].partition("\n\n")[0].splitlines()
    cells = [row.split("|") for row in rows]
    listed = [(name, kind.strip()) for _, names, kind, *_ in cells for name in names.split("`")[1::2]]
    assert listed == [(field.name, shown(field.name, field.type)) for field in records_schema()]
