"""The report of a sweep or search as HTML and Markdown."""

import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from tabulate import tabulate

from cifar_exp.figures.drawing import as_files, inline_svg
from cifar_exp.files import has_content, read_text, write_bytes
from cifar_exp.paths import FIGURES, REPORT_PAGE, REPORT_TEXT
from cifar_exp.reports.answer import answer_rows
from cifar_exp.reports.comparisons import Verdict
from cifar_exp.reports.content import Report, read_report
from cifar_exp.reports.locking import writing
from cifar_exp.reports.reference import CAPTION
from cifar_exp.terminal import printable

_SUFFIXES = (".svg", ".png")
_LINKS = ("folder", "page")  # of the first column of a list of runs


class _Explanation(NamedTuple):
    """The sign of a verdict, which does not depend on colour, and its meaning."""

    sign: str
    meaning: str


_VERDICTS: dict[Verdict, _Explanation] = {
    "supported": _Explanation(
        "✓", "The difference is as predicted, large enough to matter, and significant."
    ),
    "contradicted": _Explanation(
        "✗",
        "The difference is opposite and significant, or with 95 % confidence too small to matter.",
    ),
    "inconclusive": _Explanation("?", "Neither. More seeds or test images are needed."),
    "one seed: observed, not tested": _Explanation(
        "○", "With a single seed, an effect cannot be distinguished from chance."
    ),
    "not measured": _Explanation(
        "\N{EN DASH}", "The levels that the claim is about were not trained to the end."
    ),
}
_SEEDS = {
    "Seeds": "Each level is trained with several seeds, which determine the initial weights and "
    "the order of the images. The range in brackets is the 95 % interval of the "
    "mean: Student's t over the seeds and, for accuracies, the uncertainty due to the limited "
    "number of test images, which more seeds do not reduce. The interval is wide for two or three "
    "seeds, and does not exist for one. It is not corrected for the number of levels.",
    "Divergence": "A run has diverged if its loss exploded or became NaN. This is a result, not a "
    "failure.",
}
_CLAIMS = {
    "Pairs": "Each seed at one level is compared with the same seed at the other, which cancels "
    "effects that both share. The difference is the mean over the seeds. A diverged run is "
    "worse than any other, by an unknown amount: its differences are not tested, only their signs "
    "are counted, and all seeds must agree.",
    "Tests": "p is the probability of a difference at least as large if there were none. Verdicts "
    "use p corrected for the number of claims of the study (Holm). A difference with a corrected "
    "p below 0.05 is significant. This holds if the number of seeds was fixed before the first "
    "result, or if seed=auto added them: then p is corrected for all looks.",
}
Rows = Sequence[Mapping[str, str]]


def write_report(sweep: Path, read: Callable[[Path], Report] = read_report) -> Path:
    """Write report.html, report.md and the figures; the same runs give the same bytes.

    Args:
        sweep: the folder of a sweep or search.
        read: computes the content of the report.

    Returns:
        The path of report.html, which includes the figures.

    Raises:
        UserError: it is not the folder of a sweep, none of its runs can be read, or the folder is
            not writable.
    """
    files = _files(sweep, read)
    changed = _changed(sweep, files)
    if not changed:  # the folder may be read-only
        return sweep / REPORT_PAGE
    with writing(sweep, changed[0]):
        obsolete = _obsolete(sweep, files)  # listed in report.md, which is replaced next
        for path, content in files.items():
            path.parent.mkdir(exist_ok=True)
            write_bytes(path, content)
        for path in obsolete:
            path.unlink()
    return sweep / REPORT_PAGE


def check_report(sweep: Path, read: Callable[[Path], Report] = read_report) -> list[Path]:
    """Return the files that `write_report` would change, create or remove.

    Args:
        sweep: the folder of a sweep or search.
        read: computes the content of the report.

    Raises:
        UserError: it is not the folder of a sweep, or none of its runs can be read.
    """
    return _changed(sweep, _files(sweep, read))


def _changed(sweep: Path, files: Mapping[Path, bytes]) -> list[Path]:
    changed = [path for path, content in files.items() if not has_content(path, content)]
    return changed + _obsolete(sweep, files)


def _files(sweep: Path, read: Callable[[Path], Report]) -> dict[Path, bytes]:
    """Return the content of all files by path, the figures first."""
    report = read(sweep)
    figures = {
        figure.name + suffix: content
        for figure in report.figures
        for suffix, content in as_files(figure.draw(), figure.name).items()
    }
    images = {
        figure.name: Markup(inline_svg(figures[f"{figure.name}.svg"], escape(figure.caption)))
        for figure in report.figures
    }
    page = _page().render(images=images, **_context(report))
    files = {sweep / FIGURES / name: content for name, content in figures.items()}
    # JSON may contain lone surrogates, which become question marks
    files[sweep / REPORT_PAGE] = page.encode("utf-8", "replace")
    files[sweep / REPORT_TEXT] = markdown(report).encode("utf-8", "replace")
    return files


def markdown(report: Report) -> str:
    """Return a report as Markdown, with links to its figures."""
    # names of classes may contain control sequences of terminals
    return printable(_markdown().render(figures=FIGURES, **_context(report)))


def _context(report: Report) -> dict[str, Any]:
    """Return the variables that both templates use."""
    claims = any(section.claim_results for section in report.sections)
    # the trials of a search have no question
    answers = [(part.title, part.answer) for part in report.sections if part.question]
    return {
        "report": report,
        "verdicts": _VERDICTS,
        "claims": claims,
        "answers": answer_rows(answers) if len(answers) > 1 and any(a for _, a in answers) else [],
        "published_caption": CAPTION,
        "reading": _SEEDS | (_CLAIMS if claims else {}) | report.reading,
    }


def _obsolete(sweep: Path, files: Mapping[Path, bytes]) -> list[Path]:
    """Return the figures of the previous report that this one lacks; others are the user's."""
    if (sweep / FIGURES).is_symlink():
        return []
    try:
        text = read_text(sweep / REPORT_TEXT)
    except (OSError, ValueError):
        return []
    names = map(unquote, re.findall(rf"\]\({FIGURES}/([^/)]+)\.png\)", text))
    # the text may be from someone else: a quoted name could be a path out of the folder
    plain = [name for name in names if Path(name).name == name]
    paths = [sweep / FIGURES / f"{name}{suffix}" for name in plain for suffix in _SUFFIXES]
    return [path for path in paths if path not in files and path.is_file()]


def _page() -> Any:
    environment = _environment(autoescape=True)
    environment.filters |= {"numeric": _numeric, "tied": _tied}
    return environment.get_template("report.html")


def _markdown() -> Any:
    # `finalize` escapes the values, as `autoescape` does for HTML
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
    """Insert no-break spaces into "p = 0.3", "7.2 %" and "1.5 nats"."""
    ties = r" (?=[=<%])|(?<=[=<]) |(?<=\d) (?=(?:nats|points|s|MB|epochs|images/s|seeds?)\b)"
    return re.sub(ties, "\N{NO-BREAK SPACE}", text)


def _columns(rows: Rows) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row if name not in _LINKS))


def _pairs(mapping: Mapping[str, str], name: str = "setting") -> Rows:
    """Return one row per key with a value that is not empty."""
    return [{name: key, "value": value} for key, value in mapping.items() if value]


def _numeric(rows: Rows, columns: Sequence[str]) -> set[str]:
    """Return the columns that contain numbers; "runs" contains text such as "2 complete"."""
    return {
        column
        for column in columns
        if column != "runs" and any(re.match(r"[-+]?\d", row.get(column, "")) for row in rows)
    }


def _address(path: str) -> str:
    return quote(path.encode("utf-8", "replace"), safe="/=,+")


def _run_id(folder: str) -> str:
    """Return the id at the end of a folder name."""
    return folder.rpartition("-")[2] or folder


def _escaped(value: object) -> str:
    """Escape text for Markdown, including tables."""
    if isinstance(value, Markup):
        return value
    text = escape(" ".join(str(value).split()), quote=False)
    text = re.sub(r"[\\`*\[\]|~$]", r"\\\g<0>", text)
    text = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)  # not within a word
    text = re.sub(r"^[#+=-]", r"\\\g<0>", text)  # headings and lists
    return re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", text)


def _table(rows: Rows, link: str = "") -> Markup:
    """Return a Markdown table; `link` is the title of a first column with links to the runs."""
    columns = _columns(rows)
    lines = [[_escaped(row.get(column, "")) for column in columns] for row in rows]
    if link:
        for line, row in zip(lines, rows, strict=True):
            line.insert(0, f"[{_escaped(_run_id(row['folder']))}]({_address(row['page'])})")
    header = [*([link] if link else []), *map(_escaped, columns)]
    return Markup(tabulate(lines, header, tablefmt="github", disable_numparse=True))


def _code_block(text: str) -> Markup:
    return Markup("\n".join(f"    {line}" for line in text.splitlines()))
