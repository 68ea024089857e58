"""How error messages are worded, and tables of plain text set."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

_MAX_COMPARED = 2_000
_MAX_LISTED = 12
_MOST_NAMES = 5

MAKE_SOONER = "(make it sooner, or raise duration_s)"


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)`, or the choice where it is short, or nothing. `known` in the order to be listed in."""
    import difflib  # of no use where nothing is wrong

    names = list(known)
    # Comparing with each of a large site's devices would take seconds.
    close = difflib.get_close_matches(wrong, names[:_MAX_COMPARED], n=1)
    if close:
        return f" (did you mean '{close[0]}'?)"
    return choice_of(names)


def choice_of(names: Sequence[str]) -> str:
    """` (known: a, b)`, or nothing where there are none or too many."""
    return f" (known: {', '.join(names)})" if 0 < len(names) <= _MAX_LISTED else ""


def listed(names: Sequence[str]) -> str:
    """`a, b, c`; of more than five the first five, and how many more there are."""
    shown = ", ".join(names[:_MOST_NAMES])
    return shown if len(names) <= _MOST_NAMES else f"{shown} and {len(names) - _MOST_NAMES:,} more"


def things(number: int, singular: str) -> str:
    """Say how many there are of something that takes a plural s."""
    return f"{number:,} {singular}{'' if number == 1 else 's'}"


def one_line(problem: str) -> str:
    """The problem with line breaks and other control characters from the user's own text escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in problem)


def table(rows: Sequence[Sequence[str]], texts: Collection[int]) -> Iterator[str]:
    """Rows of a table as lines, the columns that are texts to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.ljust(width) if column in texts else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  " + "  ".join(cells)


def not_within(at_s: float, duration_s: float) -> str:
    """What happens beyond the end of a run, in words."""
    return f"{at_s:g} s is not within the run of {duration_s:g} s {MAKE_SOONER}"
