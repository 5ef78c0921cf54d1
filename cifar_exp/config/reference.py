"""Published values that the report of a study compares with its runs."""

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from cifar_exp.config.keys import CONF, SHORT_NAMES, explain_key, known_keys, short, without_name
from cifar_exp.config.metrics import BEST, CURVES
from cifar_exp.config.schema import CAN_BE_CUSTOM
from cifar_exp.errors import UserError
from cifar_exp.files import read_text
from cifar_exp.sections import Section

_MAX_SHOWN = 100
SO_FAR = "_so_far"
# Metrics of a reference: those of an epoch, and the best value up to it.
REFERENCE_METRICS = CURVES | {f"{name}{SO_FAR}": column for name, column in BEST.items()}


class Reference(Section):
    """Published values of a study, such as those of a paper."""

    label: str = Field(
        "published", min_length=1, max_length=30, description="name in figures and tables"
    )
    source: str = Field(description="where the values were published")
    file: str = Field(
        description="CSV file of the values, relative to the current folder or to the project"
    )
    settings: dict[str, int | float | str | bool | None] = Field(
        {}, description="settings of the published runs; the report lists those that differ"
    )
    text: SkipJsonSchema[str] = ""  # content of the file; sweep.json stores it

    def rows(self, key: str) -> list[dict[str, Any]]:
        """Return the values, one row per level and epoch: `level`, `epoch` and metrics.

        Args:
            key: dotted key of the varied setting.

        Raises:
            UserError: the file has a mistake; the message has its line.
        """
        lines = self._lines()
        number, names = next(lines, (1, []))
        header = [name.strip() for name in names]
        if problem := _header_problem(header, key):
            raise UserError(f"{self.file}, line {number}: {problem}")
        rows: dict[tuple[str, int], dict[str, Any]] = {}
        for number, cells in lines:
            try:
                row = dict(_parsed(header, cells))
                row["level"] = without_name(short(key), row["level"])
                if rows.setdefault((str(row["level"]), row["epoch"]), row) is not row:
                    raise ValueError("expected each level and epoch once")
            except ValueError as error:
                raise UserError(f"{self.file}, line {number}: {error}") from error
        if not rows:
            raise UserError(f"{self.file}: expected at least one line of values")
        return list(rows.values())

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the cells of each line that is not empty, and the number of its first line."""
        reader = csv.reader(self.text.splitlines(), strict=True)
        while True:
            first = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:  # a cell may have several lines
                raise UserError(
                    f"{self.file}, line {first}: expected values in CSV format: {error}. "
                    "Check the quotes."
                ) from error
            if cells:
                yield first, cells

    def check(self, key: str) -> None:
        """Refuse values that the report could not compare.

        Studies in stored sweeps are not checked.

        Args:
            key: dotted key of the varied setting.

        Raises:
            UserError: an accuracy is in percent, there is no metric, or a setting is unknown.
        """
        rows = self.rows(key)
        if all(row.keys() == {"level", "epoch"} for row in rows):
            raise UserError(f"{self.file}: expected a metric. Add a column such as test_accuracy.")
        for row in rows:
            for name, value in row.items():
                if "accuracy" in name and not 0 <= value <= 1:
                    problem = f"expected fractions from 0 to 1, got {value:g}"
                    raise UserError(f"{self.file}: {name}: {problem}. Write 0.5 for 50 %.")
        for name in self.settings:
            full = SHORT_NAMES.get(name, name)
            if full not in known_keys() and full.partition(".")[0] not in CAN_BE_CUSTOM:
                raise UserError(f"study.reference.settings.{explain_key(full)}")


def _header_problem(header: list[str], key: str) -> str | None:
    expected = {"epoch", *REFERENCE_METRICS}
    if header[:1] not in ([key], [short(key)]) or "epoch" not in header:
        given = ",".join(header)[:_MAX_SHOWN]
        return f"expected the columns {short(key)}, epoch and metrics, got {given!r}"
    if unknown := [name for name in header[1:] if name not in expected]:
        names = "Use names such as test_accuracy or best_test_accuracy_so_far."
        return f"unknown metric {unknown[0]}. {names}"
    return "expected different columns" if len({*header}) < len(header) else None


def _parsed(header: list[str], cells: list[str]) -> Iterator[tuple[str, Any]]:
    if len(cells) != len(header):
        raise ValueError(f"expected {len(header)} values, got {len(cells)}")
    yield "level", _level(cells[0].strip())
    for name, cell in zip(header[1:], cells[1:], strict=True):
        if name == "epoch":
            if not cell.strip().isdecimal() or int(cell) < 1:
                raise ValueError(f"epoch: expected a whole number from 1, got {cell!r}")
            yield name, int(cell)
        elif cell.strip():  # empty: not published
            try:
                value = float(cell)
            except ValueError:
                value = math.nan
            if not math.isfinite(value):
                raise ValueError(f"{name}: expected a finite number or nothing, got {cell!r}")
            yield name, value


def _level(cell: str) -> Any:
    try:
        level = json.loads(cell)
    except (ValueError, RecursionError):
        try:
            level = float(cell)  # such as .001, which is not JSON
        except ValueError:
            return cell
    if isinstance(level, float) and not math.isfinite(level):
        raise ValueError(f"expected a level, got {cell}")
    return str(level) if isinstance(level, list | dict) else level


def read_reference(file: str) -> str:
    """Return the content of a reference's file.

    Args:
        file: path relative to the current folder or to the project.

    Raises:
        UserError: the file cannot be read.
    """
    path = Path(file).expanduser()
    try:
        text = read_text(path if path.exists() else CONF.parent / path)
        return text.removeprefix("\ufeff")  # of CSV files that Excel writes
    except (OSError, ValueError) as error:
        raise UserError(f"study.reference.file: cannot read {file}: {error}") from error
