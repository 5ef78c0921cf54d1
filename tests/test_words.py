"""The project's prose uses the words that PyTorch's and Optuna's documentation use."""

import re
import subprocess

from tests.conftest import ROOT

# What is written instead: report, log, warn; resume, continue; custom, local; NaN, non-finite;
# unknown, not found; also, similarly; again; next to, in addition to.
BANNED = {
    "programs report, log, warn or return": r"tell(s|ing)?|told|say to|hears?|heard|speaks?|knows|wants?|fares?",
    "resume or continue": r"go(es)? on\b(?! the)|gone on|went on|going on",
    "custom, or local": r"(of|on) (one's|the user's|his|its) own\b|user's own",
    "NaN or non-finite": r"no (finite )?numbers?\b(?! of)",
    "unknown or not found": r"there (is|are) no such",
    "plain English": r"so many|likewise|out loud|anew|as far as memory goes|come along|comes along|stands? for|half[- ]done|for want of",
}
FILES = r"\.(py|md|yaml|toml|html|cff)$|^\.ci/run$"
NOT_OURS = r"^multirun_results/published/|^CHANGELOG\.md$|^tests/test_words\.py$|^benchmarks/results/"


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    return [
        name
        for name in listed.stdout.splitlines()
        if re.search(FILES, name) and not re.search(NOT_OURS, name) and (ROOT / name).is_file()
    ]


def test_no_text_has_a_banned_word() -> None:
    found = []
    for name in tracked():
        for number, line in enumerate((ROOT / name).read_text("utf-8").splitlines(), 1):
            for instead, pattern in BANNED.items():
                if match := re.search(rf"\b({pattern})\b", line, re.IGNORECASE):
                    found.append(f"{name}:{number}: {match[0]!r}: {instead}")
    assert not found, "\n".join(found)
