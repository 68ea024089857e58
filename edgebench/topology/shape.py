"""From plain values to a typed record; a shape that does not fit becomes one line a user can act on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from edgebench.topology.strict_yaml import Value
from edgebench.topology.wording import did_you_mean

_MESSAGE = re.compile(r"(?P<what>.*?)(?: - at (?P<key>`key` in )?`\$(?P<path>.*)`)?", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]|(\[\.\.\.\])")
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "null": "nothing",
    "array": "a list",
    "object": "a mapping of fields",
}
_NAME_RULE = "is no name (use a-z, 0-9 and '-', at most 63 characters, '-' neither first nor last)"


class ShapeError(Exception):
    """What is wrong, and where: steps from the root of the document."""

    def __init__(self, steps: tuple[str | int, ...], problem: str, field: str | None = None) -> None:
        """`field`: the field below `steps` that should not be there."""
        super().__init__(problem)
        self.steps = steps
        self.problem = problem
        self.field = field


T = TypeVar("T")


@dataclass(frozen=True)
class _Spot:
    """A place in the document: the type that is wanted there and the value that is. root: what the whole is to be."""

    root: inspect.Type
    steps: tuple[str | int, ...]
    wanted: inspect.Type
    value: Value


def typed(document: Value, kind: type[T]) -> T:
    """What a document describes, which is to be of this kind: a struct, or a union of some that have tags.

    Raises ShapeError.
    """
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise _explained(str(error), document, kind) from error


def _explained(message: str, document: Value, kind: type[Any]) -> ShapeError:
    match = _MESSAGE.fullmatch(message)
    assert match is not None
    root = inspect.type_info(kind)
    spot = _Spot(root, (), _one_of(root, document), document)
    for step in _STEP.finditer(match["path"] or ""):
        key = _misfit(spot, document, message, kind) if step[3] else step[1]
        spot = _below(spot, int(step[2]) if step[2] else key)
    if match["key"] and isinstance(spot.value, dict):
        bad = next(key for key in spot.value if not _is_name(key))
        return ShapeError(spot.steps, f"'{bad}' {_NAME_RULE}", bad)
    return _translated(match["what"], spot)


def _misfit(spot: _Spot, document: Value, message: str, kind: type[Any]) -> str:
    """The key of the first value that does not fit. msgspec does not tell, but of a document in which that mapping has
    no other key it says the same."""
    assert isinstance(spot.value, dict)
    for key, value in spot.value.items():
        try:
            msgspec.convert(_replaced(document, spot.steps, {key: value}), kind)
        except msgspec.ValidationError as error:
            if str(error) == message:
                return key
    raise AssertionError(f"every value of {spot.steps} fits")


def _replaced(document: Value, steps: tuple[str | int, ...], value: Value) -> Value:
    """The document with another value at a place."""
    if not steps:
        return value
    first, *others = steps
    if isinstance(document, dict) and isinstance(first, str):
        return {**document, first: _replaced(document[first], tuple(others), value)}
    assert isinstance(document, list)
    assert isinstance(first, int)
    return [*document[:first], _replaced(document[first], tuple(others), value), *document[first + 1 :]]


def _below(spot: _Spot, step: str | int) -> _Spot:
    inner: Value = None
    if isinstance(step, int) and isinstance(spot.value, list):
        inner = spot.value[step]
    elif isinstance(step, str) and isinstance(spot.value, dict):
        inner = spot.value.get(step)
    return _Spot(spot.root, (*spot.steps, step), _one_of(_wanted_below(spot.wanted, step), inner), inner)


def _wanted_below(wanted: inspect.Type, step: str | int) -> inspect.Type:
    match wanted:
        case inspect.StructType():
            return next((field.type for field in wanted.fields if field.encode_name == step), inspect.AnyType())
        case inspect.DictType():
            return wanted.value_type
        case inspect.VarTupleType():
            return wanted.item_type
        case inspect.TupleType() if isinstance(step, int):
            return wanted.item_types[step]
    return inspect.AnyType()


def _one_of(wanted: inspect.Type, value: Value) -> inspect.Type:
    """Of a union, the member that the value means to be; the union itself where that is open."""
    if not isinstance(wanted, inspect.UnionType):
        return wanted
    structs = [member for member in wanted.types if isinstance(member, inspect.StructType)]
    if isinstance(value, dict) and structs:
        if len(structs) == 1:
            return structs[0]
        return next((member for member in structs if value.get(str(member.tag_field)) == member.tag), wanted)
    if isinstance(value, dict):
        return next((member for member in wanted.types if isinstance(member, inspect.DictType)), wanted)
    if isinstance(value, str) and not any(isinstance(member, inspect.IntType) for member in wanted.types):
        return next((member for member in wanted.types if isinstance(member, inspect.LiteralType)), wanted)
    if isinstance(value, list):
        lists = (inspect.VarTupleType, inspect.TupleType)
        return next((member for member in wanted.types if isinstance(member, lists)), wanted)
    return wanted


def _translated(what: str, spot: _Spot) -> ShapeError:
    if match := re.fullmatch(r"Object contains unknown field `(.*)`", what, re.DOTALL):
        return ShapeError(
            spot.steps, f"unknown field '{match[1]}'{did_you_mean(match[1], _fields(spot.wanted))}", match[1]
        )
    if match := re.fullmatch(r"Object missing required field `(.*)`", what):
        return ShapeError(spot.steps, f"field '{match[1]}' is missing{_choice_for(spot, match[1])}")
    if re.fullmatch(r"Invalid (enum )?value .*", what, re.DOTALL):
        if spot.steps == ("schema",):
            return ShapeError(spot.steps, f"this version reads schema 1, not {_shown(spot.value)}")
        choices = list(_choices(spot))
        listed = ", ".join(choices)
        close = did_you_mean(str(spot.value), choices)
        mean = close if close.startswith(" (did") else ""
        return ShapeError(
            spot.steps, f"{_shown(spot.value)} is not {'one of ' if len(choices) > 1 else ''}{listed}{mean}"
        )
    if isinstance(spot.value, str) and what.endswith("of length >= 1"):
        return ShapeError(spot.steps, "is empty (write something)")
    if "matching regex" in what or (isinstance(spot.value, str) and "of length" in what):
        return ShapeError(spot.steps, f"{_shown(spot.value)} {_NAME_RULE}")
    return ShapeError(spot.steps, _expected(what, spot.value))


def _expected(what: str, value: Value) -> str:
    match = re.fullmatch(
        r"Expected `([^`]+)`(?: (of length )?([<>]=?) (\S+)| of length (\d+))?(?:, got `?(\w+)`?)?", what
    )
    if match is None:
        return what
    kinds, of_length, relation, bound, exact, got = match.groups()
    wanted = " or ".join(_WORDS.get(kind, kind) for kind in kinds.split(" | ") if kind != "null")
    if of_length:
        return "is empty (give at least one)" if bound == "1" else f"expected {wanted} of {relation} {bound} entries"
    if exact:
        return f"expected {wanted} of {exact} entries, got {got}"
    if relation:
        return f"{_shown(value)} is not {wanted} {relation} {bound.removesuffix('.0')}"
    return f"expected {wanted}, got {_WORDS.get(got, got)}{_shown_if_scalar(value)}"


def _fields(wanted: inspect.Type) -> Iterator[str]:
    if isinstance(wanted, inspect.StructType):
        if wanted.tag_field is not None:
            yield wanted.tag_field
        yield from (field.encode_name for field in wanted.fields)


def _choices(spot: _Spot) -> Iterator[str]:
    """The values that a place of fixed choice can have; for a tag, those of the union around it."""
    match spot.wanted:
        case inspect.LiteralType():
            yield from map(str, spot.wanted.values)
        case inspect.UnionType(types=(inspect.IntType(), inspect.LiteralType(values=words), *_)):
            yield from (*map(str, words), _WORDS["int"])
        case _:
            yield from _tags(spot.root, spot.steps)


def _tags(root: inspect.Type, steps: Iterable[str | int]) -> Iterator[str]:
    wanted = root
    for step in steps:
        if isinstance(wanted, inspect.UnionType):
            break
        wanted = _wanted_below(wanted, step)
    if isinstance(wanted, inspect.UnionType):
        yield from (str(member.tag) for member in wanted.types if isinstance(member, inspect.StructType))


def _choice_for(spot: _Spot, field: str) -> str:
    inner = _wanted_below(spot.wanted, field)
    if isinstance(inner, inspect.LiteralType):
        return f" (give {' or '.join(map(str, inner.values))})"
    if isinstance(spot.wanted, inspect.UnionType):
        return f" (give one of {', '.join(_tags(spot.wanted, ()))})"
    return ""


def _is_name(text: str) -> bool:
    return len(text) <= 63 and re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", text) is not None


def _shown(value: Value) -> str:
    if isinstance(value, str):
        seen = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in value)
        return f"'{seen if len(seen) <= 80 else seen[:77] + '…'}'"
    return "nothing" if value is None else str(value)


def _shown_if_scalar(value: Value) -> str:
    return "" if value is None or isinstance(value, list | dict) else f" ({_shown(value)})"
