"""How wide tables are."""

from __future__ import annotations

import pytest

from edgebench.report.tables import plain_table, standard_output


@pytest.mark.parametrize(("columns", "width"), [(None, 200), ("90", 90)])
def test_into_a_file_a_table_goes_whole_or_as_wide_as_is_asked(
    columns: str | None, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    console = standard_output()
    assert console.width == width
    table = plain_table()
    table.add_column("figure", no_wrap=True)
    table.add_row("m" * 150)
    console.print(table)
    assert ("m" * 150 in capsys.readouterr().out) is (width >= 150)
