"""YAML without surprises: the 1.2 core schema, no duplicate keys, no tags, no merge keys, no unbounded aliases.

`yes`, `1:30` and `2026-01-01` are text, `1e3` is a number; a key is always text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import suppress

import yaml

from edgebench.decoding import NotUtf8Error, from_utf8

MAX_BYTES = 1 << 20
MAX_VALUES = 200_000
"""Values after aliases have been expanded: more is a mistake, or an attack."""

Value = None | bool | int | float | str | list["Value"] | dict[str, "Value"]


class YamlError(Exception):
    """What is wrong with a document, as `line N: what (mend)`."""


class _Loader(yaml.SafeLoader):
    """Composes nodes with the implicit types of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own name


_UNSEEN = {
    "\u00a0": "no-break space",
    "\u202f": "narrow no-break space",
    "\u2007": "figure space",
    "\u3000": "ideographic space",
    "\u200b": "zero-width space",
    "\u200c": "zero-width non-joiner",
    "\u200d": "zero-width joiner",
    "\u2060": "word joiner",
    "\u00ad": "soft hyphen",
    "\ufeff": "byte order mark",
}
"""What looks like a space or like nothing, as text from a web page has it, and is a part of a word to YAML."""

_EDGES = "".join(_UNSEEN)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")

_NULL, _BOOL, _INT, _FLOAT, _TEXT = (f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str"))
for _tag, _pattern, _first in (
    (_NULL, r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (_BOOL, r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    (_INT, r"[-+]?[0-9]+", list("-+0123456789")),
    (
        _FLOAT,
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), _first)


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 or 1.2 would take for something else than text."""

    def ignore_aliases(self, data: object) -> bool:
        """All is written out."""
        return True


for _letter, _resolvers in _Loader.yaml_implicit_resolvers.items():
    for _tag, _regexp in _resolvers:
        _Dumper.add_implicit_resolver(_tag, _regexp, [_letter])


def dump(value: Value) -> str:
    """YAML that `parse`, and whoever reads YAML 1.1, takes for this value; fields stay in their order."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True))


def parse(source: bytes | str) -> Value:
    """The one document of a YAML source; an empty source is None.

    Raises YamlError.
    """
    if len(source) > MAX_BYTES:
        raise YamlError(f"line 1: larger than {MAX_BYTES >> 20} MiB (is this a topology?)")
    text = _decoded(source) if isinstance(source, bytes) else source
    loader = _new_loader(text)
    try:
        root = loader.get_single_node()
        return None if root is None else _Builder().value(root)
    except yaml.MarkedYAMLError as error:
        raise YamlError(_unseen(error, text) or _marked(error, text)) from error
    except yaml.reader.ReaderError as error:
        raise _unreadable(error, text) from error
    except RecursionError as error:
        raise YamlError("line 1: nested too deeply") from error
    finally:
        loader.dispose()


class Unseen:
    """The characters of a document that cannot be seen; read once for all that is said of it."""

    def __init__(self, source: bytes) -> None:
        self._root: yaml.Node | None = None
        with suppress(yaml.YAMLError, YamlError, RecursionError):
            text = _decoded(source)
            if any(each in text for each in _UNSEEN):
                self._root = _new_loader(text).get_single_node()

    def at(self, path: str, problem: str, now: Value) -> str:
        """`, with a zero-width space (U+200B) in line 13 (remove it)`, where the text at a place of the document has
        such a character; else nothing.

        path: the place, `$.workloads.risk.task`. problem: what is said of it; where the place is not one text but holds
        many, only a character that this shows counts. now: the document as it is judged, in which `--set` may have
        replaced texts, and files have got their folders: what ends as no text of it does counts for nothing.
        """
        node = self._root
        for step in _STEP.finditer(path):
            node, now = _below(node, step[1] or step[2]), _value_below(now, step[1] or step[2])
        whole = isinstance(node, yaml.ScalarNode)
        for line, text, character in _unseen_in(node, set()):
            shown = whole or character in problem or character.encode("unicode_escape").decode() in problem
            if shown and any(each.endswith(text) for each in _texts(now)):
                return f", with a {_named(character)} in line {line} (remove it)"
        return ""


def _value_below(value: Value, step: str) -> Value:
    if isinstance(value, list | tuple) and step.isdigit():
        return next(iter(value[int(step) : int(step) + 1]), None)
    return value.get(step) if isinstance(value, dict) else None


def _texts(value: Value) -> Iterator[str]:
    """All texts in a value, keys among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def _below(node: yaml.Node | None, step: str) -> yaml.Node | None:
    if isinstance(node, yaml.SequenceNode) and step.isdigit():
        return next(iter(node.value[int(step) : int(step) + 1]), None)
    if isinstance(node, yaml.MappingNode):
        return next((item for key, item in node.value if key.value == step), None)
    return None


def _unseen_in(node: yaml.Node | None, seen: set[int]) -> Iterator[tuple[int, str, str]]:
    """The lines of the texts below that have such characters, the texts and these; of what an alias repeats once."""
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        for character in filter(_UNSEEN.__contains__, node.value):
            yield node.start_mark.line + 1, node.value, character
        return
    for item in node.value:
        for each in item if isinstance(item, tuple) else (item,):
            yield from _unseen_in(each, seen)


def _decoded(source: bytes) -> str:
    try:
        return from_utf8(source)
    except NotUtf8Error as error:
        raise YamlError(f"{error} (save the file as UTF-8)") from error


def _new_loader(text: str) -> _Loader:
    try:
        return _Loader(text)
    except yaml.reader.ReaderError as error:
        raise _unreadable(error, text) from error


def _unreadable(error: yaml.reader.ReaderError, text: str) -> YamlError:
    line = text.count("\n", 0, error.position) + 1
    return YamlError(f"line {line}: character U+{ord(text[error.position]):04X} is not allowed in YAML (remove it)")


def _unseen(error: yaml.MarkedYAMLError, text: str) -> str | None:
    """The first character that cannot be seen, up to the place where the document is no YAML any more."""
    mark = error.problem_mark or error.context_mark
    until = len(text) if mark is None else text.find("\n", mark.index) % (len(text) + 1)
    found = min(((text.find(each, 0, until), each) for each in _UNSEEN if each in text[:until]), default=None)
    if found is None:
        return None
    at, character = found
    line = text.count("\n", 0, at) + 1
    return f"line {line}: {_told(character)}"


def _named(character: str) -> str:
    return f"{_UNSEEN[character]} (U+{ord(character):04X})"


def _told(character: str) -> str:
    return f"a {_named(character)}, which to YAML is part of a word (remove it, type a space)"


def _marked(error: yaml.MarkedYAMLError, text: str) -> str:
    mark = error.problem_mark or error.context_mark
    problem = error.problem or "not YAML"
    if mark is None:
        return f"line 1: {problem}"
    if "\\t" in problem or text[mark.index : mark.index + 1] == "\t":
        return f"line {mark.line + 1}: a tab where YAML wants spaces (indent with spaces)"
    if "single document" in f"{error.context}":
        return f"line {mark.line + 1}: a second document begins (keep one topology a file)"
    return f"line {mark.line + 1}: {problem}"


class _Builder:
    """Turns composed nodes into values that share nothing."""

    def __init__(self) -> None:
        self._values = 0
        self._open: set[int] = set()

    def value(self, node: yaml.Node) -> Value:
        self._values += 1
        if self._values > MAX_VALUES:
            raise _at(node, f"more than {MAX_VALUES:,} values, aliases expanded (write less, or fewer aliases)")
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        if id(node) in self._open:
            raise _at(node, "an anchor that contains itself (write it out)")
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node)
            if node.tag != "tag:yaml.org,2002:seq":
                raise _at(node, f"tag {_shown(node.tag)} is not supported (remove it)")
            return [self.value(item) for item in node.value]
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Value]:
        if node.tag != "tag:yaml.org,2002:map":
            raise _at(node, f"tag {_shown(node.tag)} is not supported (remove it)")
        built: dict[str, Value] = {}
        for key, item in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _at(key, "a key that is not text")
            if key.value == "<<" and key.style is None:
                raise _at(key, "merge keys (<<) are not part of YAML 1.2 (write the fields out)")
            unseen = next((each for each in key.value if each in _UNSEEN), None)
            if unseen is not None and key.style is None:
                raise _at(key, _told(unseen))
            if key.value in built:
                raise _at(key, f"key '{key.value}' stands here twice (remove one)")
            built[key.value] = self.value(item)
        return built


def _scalar(node: yaml.ScalarNode) -> Value:
    text: str = node.value
    match node.tag:
        case tag if tag == _TEXT:
            if node.style is None and text.strip(_EDGES) != text:
                raise _at_edge(node)
            return text
        case tag if tag == _NULL:
            return None
        case tag if tag == _BOOL:
            return text.lower() == "true"
        case tag if tag == _INT:
            if len(text) > 20:
                raise _at(node, f"{text[:20]}… is too large a number")
            return int(text)
        case tag if tag == _FLOAT:
            number = _number(text)
            if not math.isfinite(number):
                raise _at(node, f"{text} is not a finite number")
            return number
    raise _at(node, f"tag {_shown(node.tag)} is not supported (remove it)")


def _at_edge(node: yaml.ScalarNode) -> YamlError:
    """Where a space would not count as a part of the text, what cannot be seen is not meant to. Quoted, it is."""
    text: str = node.value
    leads = text[0] in _UNSEEN
    line = (node.start_mark if leads else node.end_mark).line + 1
    return YamlError(f"line {line}: {_told(text[0] if leads else text[-1])}")


def _number(text: str) -> float:
    special = text.lower().lstrip("+-")
    return math.nan if special in (".nan", ".inf") else float(text)


def _shown(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")


def _at(node: yaml.Node, problem: str) -> YamlError:
    return YamlError(f"line {node.start_mark.line + 1}: {problem}")
