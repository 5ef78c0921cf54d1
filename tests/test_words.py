"""The words of code, tests and documentation are those of PyTorch's and Optuna's documentation."""

import re
import subprocess

import pytest

from tests.conftest import ROOT

# Patterns by what to write instead. Identifiers count as well: "_" separates words.
BANNED = {
    "report, log, warn, print, return": r"(?<!study\.)tell(s|ing)?|told|say to|hears?|heard"
    r"|speaks?",
    "require, support, detect": r"knows|wants?|fares?|is worth",
    "resume, continue": r"go(es)? on\b(?! the)|gone on|went on|going on",
    "interrupted": r"half[- ]done",
    "custom, local, separate": r"(of|on) (one's|the user's|his|its|your) own|user's own",
    "NaN, non-finite": r"no (finite )?numbers?\b(?! of)",
    "unknown, not found": r"there (is|are) no such",
    "is, represents": r"stands?",
    "next to, in addition to": r"beside",
    "logger": r"mirrors?(?! image)|trackers?",
    "plain English": r"so many|likewise|out loud|anew|as far as memory goes|comes? along"
    r"|for want of",
}
TEXT = r"\.(py|md|ya?ml|toml|html|css|cff|sh|txt)$|^\.ci/run$|^\.gitignore$"
# History, results that were saved by earlier versions, and this file.
EXCLUDED = (
    r"^CHANGELOG\.md$|^multirun_results/published/|^benchmarks/results/|^tests/test_words\.py$"
)


def tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [
        name
        for name in listed.stdout.splitlines()
        if re.search(TEXT, name) and not re.search(EXCLUDED, name) and (ROOT / name).is_file()
    ]


@pytest.mark.parametrize("instead", BANNED)
def test_no_text_contains_a_banned_word(instead: str) -> None:
    banned = re.compile(rf"\b({BANNED[instead]})\b", re.IGNORECASE)
    found = [
        f"{name}:{number}: {match[0]!r}; write {instead}"
        for name in tracked()
        for number, line in enumerate((ROOT / name).read_text("utf-8").splitlines(), 1)
        if (match := banned.search(line) or banned.search(line.replace("_", " ")))
    ]
    assert not found, "\n".join(found)
