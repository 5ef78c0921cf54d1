"""The report of a sweep as a page and as Markdown: the layout of what `report` puts together."""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from tabulate import tabulate

from cifar_exp.figures.drawing import as_files
from cifar_exp.files import has_content, read_text, write_bytes
from cifar_exp.paths import FIGURES, REPORT_PAGE, REPORT_TEXT
from cifar_exp.reports.comparisons import Verdict
from cifar_exp.reports.content import Report, read_report
from cifar_exp.reports.locking import writing
from cifar_exp.terminal import printable

_SUFFIXES = (".svg", ".png")


class _Sign(NamedTuple):
    """How a verdict is told: a sign, so that no colour is needed, and what it means."""

    sign: str
    meaning: str


_VERDICTS: dict[Verdict, _Sign] = {
    "supported": _Sign("✓", "As predicted, at least as large as matters, and significant."),
    "contradicted": _Sign(
        "✗",
        "The other way round and significant, or smaller than what matters with 95 % confidence.",
    ),
    "inconclusive": _Sign("?", "Neither: these seeds cannot tell."),
    "one seed: observed, not tested": _Sign(
        "○", "Without a second seed there is no telling chance from effect."
    ),
    "not measured": _Sign(
        "\N{EN DASH}", "The levels that the claim is about were not trained, or not to the end."
    ),
}
_SEEDS = {
    "Seeds": "Each level is trained with several seeds, which determine the initial weights and "
    "the order of the images. The value after ± is the half-width of the 95 % interval of the "
    "mean: Student's t over n seeds, and for accuracies also the limited number of test images, "
    "which more seeds do not make up for. With two or three seeds it is wide; one seed has none. "
    "The intervals are not corrected for the number of levels.",
    "Divergence": "A run whose loss exploded or became NaN has diverged. That is a result and "
    "not a failure.",
}
_CLAIMS = {
    "Pairs": "Each seed at one level is compared with the same seed at the other, so that what "
    "both share cancels out; 'A less B' is the mean of these differences. A diverged run counts "
    "as worse than any other, by no particular amount: such differences are counted instead of "
    "tested, and all seeds must agree.",
    "Tests": "p is the level at which the interval of the differences ends at 0, corrected for "
    "the number of the study's claims (Holm). Below 0.05 counts as significant.",
}
Rows = Sequence[Mapping[str, str]]


def write_report(sweep: Path, read: Callable[[Path], Report] = read_report) -> Path:
    """Write report.html, report.md and the figures of a sweep; the same runs give the same bytes.

    Args:
        sweep: its folder, with sweep.json.
        read: puts the report together; another one for what is no sweep.

    Returns:
        The path of report.html, which needs no other file.

    Raises:
        UserError: it is not the folder of a sweep, none of its runs is there, or it cannot be
            written.
    """
    files = _files(sweep, read)
    with writing(sweep):
        left_over = _left_over(sweep, files)  # before report.md, which names them, is replaced
        for path, content in files.items():
            path.parent.mkdir(exist_ok=True)
            write_bytes(path, content)
        for path in left_over:
            path.unlink()
    return sweep / REPORT_PAGE


def check_report(sweep: Path, read: Callable[[Path], Report] = read_report) -> list[Path]:
    """Return the files that `write_report` would change, make or remove.

    Args:
        sweep: its folder, with sweep.json.
        read: as in `write_report`.

    Raises:
        UserError: it is not the folder of a sweep, or none of its runs is there.
    """
    files = _files(sweep, read)
    changed = [path for path, content in files.items() if not has_content(path, content)]
    return changed + _left_over(sweep, files)


def _files(sweep: Path, read: Callable[[Path], Report]) -> dict[Path, bytes]:
    """Make everything in memory; the figures come before what shows them."""
    report = read(sweep)
    figures = _figures(report)
    images = {
        Path(name).stem: f"data:image/svg+xml;base64,{base64.b64encode(content).decode()}"
        for name, content in figures.items()
        if name.endswith(".svg")
    }
    claims = any(section.findings for section in report.sections)
    words: dict[str, Any] = {
        "verdicts": _VERDICTS,
        "claims": claims,
        "reading": _SEEDS | (_CLAIMS if claims else {}) | report.reading,
    }
    page = _page().render(report=report, images=images, **words)
    # unlike a browser, a terminal obeys what names of classes may hold
    text = printable(_markdown().render(report=report, figures=FIGURES, **words))
    files = {sweep / FIGURES / name: content for name, content in figures.items()}
    # a lone surrogate, which JSON can bring along, becomes a question mark
    files[sweep / REPORT_PAGE] = page.encode("utf-8", "replace")
    files[sweep / REPORT_TEXT] = text.encode("utf-8", "replace")
    return files


def _figures(report: Report) -> dict[str, bytes]:
    pictures = [picture for section in report.sections for picture in section.pictures]
    return {
        picture.name + suffix: content
        for picture in pictures
        for suffix, content in as_files(picture.draw()).items()
    }


def _left_over(sweep: Path, files: Mapping[Path, bytes]) -> list[Path]:
    """Return the figures of the last report that are no longer made; others are the user's."""
    try:
        text = read_text(sweep / REPORT_TEXT)
    except (OSError, ValueError):
        return []
    names = map(unquote, re.findall(rf"\]\({FIGURES}/([^/)]+)\.png\)", text))
    paths = [sweep / FIGURES / f"{name}{suffix}" for name in names for suffix in _SUFFIXES]
    if (sweep / FIGURES).is_symlink():
        return []
    return [path for path in paths if path not in files and path.is_file()]


def _page() -> Any:
    environment = _environment(autoescape=True)
    environment.filters |= {"numeric": _is_numeric, "tied": _tied}
    return environment.get_template("report.html")


def _markdown() -> Any:
    # what is written into the template is escaped, as autoescape does it for HTML
    environment = _environment(autoescape=False, finalize=_escaped)
    environment.filters["table"] = _table
    environment.filters["code_block"] = _code_block
    return environment.get_template("report.md")


def _environment(**options: Any) -> Environment:
    environment = Environment(
        loader=PackageLoader("cifar_exp.reports"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )
    environment.filters |= {
        "columns": _columns,
        "pairs": _pairs,
        "address": _address,
        "run_id": _run_id,
    }
    return environment


def _tied(text: str) -> str:
    """Keep "n = 3", "± 7.2 %" and "1.5 nats" on a line each."""
    ties = r" (?=[=<%])|(?<=[=<±]) |(?<=\d) (?=(?:nats|points|s|MB|epochs|images/s)\b)"
    return re.sub(ties, "\N{NO-BREAK SPACE}", text)


def _columns(rows: Rows) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row if name != "folder"))


def _pairs(mapping: Mapping[str, str], name: str = "setting") -> Rows:
    """Return a line a key; what is empty is left out."""
    return [{name: key, "value": value} for key, value in mapping.items() if value]


def _is_numeric(rows: Rows, column: str) -> bool:
    """Tell whether a column is of numbers; "runs" are counts with their words."""
    return column != "runs" and any(re.match(r"[-+]?\d", row.get(column, "")) for row in rows)


def _address(path: str) -> str:
    return quote(path.encode("utf-8", "replace"), safe="/=,+")


def _run_id(folder: str) -> str:
    """Return the end of the name of a run's folder, which is unique and short."""
    return folder.rpartition("-")[2] or folder


def _escaped(value: object) -> str:
    """Return text that Markdown shows as it is, in a table too."""
    if isinstance(value, Markup):
        return value
    text = escape(" ".join(str(value).split()), quote=False)
    text = re.sub(r"[\\`*\[\]|~$]", r"\\\g<0>", text)
    text = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)  # within a word it is no emphasis
    text = re.sub(r"^[#+=-]", r"\\\g<0>", text)  # no heading and no list
    return re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", text)


def _table(rows: Rows, link: str = "") -> Markup:
    """Return a table in Markdown. Args: link: name of a first column with links to the runs."""
    columns = _columns(rows)
    lines = [[_escaped(row.get(column, "")) for column in columns] for row in rows]
    if link:
        for line, row in zip(lines, rows, strict=True):
            line.insert(0, f"[{_escaped(_run_id(row['folder']))}]({_address(row['folder'])})")
    header = [*([link] if link else []), *map(_escaped, columns)]
    return Markup(tabulate(lines, header, tablefmt="github", disable_numparse=True))


def _code_block(text: str) -> Markup:
    return Markup("\n".join(f"    {line}" for line in text.splitlines()))
