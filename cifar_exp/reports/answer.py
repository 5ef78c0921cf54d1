"""The answer of a sweep, a study or a search: the best settings and the command for them."""

import json
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cifar_exp.config.identity import all_settings, differences, settings, varied
from cifar_exp.config.keys import short, short_names
from cifar_exp.config.schema import CAN_BE_CUSTOM, RunConfig
from cifar_exp.config.study import Study, Value
from cifar_exp.reports.comparisons import Verdict
from cifar_exp.reports.levels import sorted_levels
from cifar_exp.reports.metrics import MEASURES, main_metric
from cifar_exp.reports.records import runs_of_studies
from cifar_exp.reports.sequential import Looks, looks_of
from cifar_exp.reports.table import Group, ranked
from cifar_exp.reports.verdicts import judge_best, judge_claims
from cifar_exp.runs.folder import ENDED
from cifar_exp.runs.record import Record
from cifar_exp.terminal import columns, table, wrapped, wrapped_command

_MAX_SHOWN = 3  # varied settings
# Text that Hydra reads as text without quotes: not a number, and ASCII only.
_WORD = r"(?!(null|true|false|nan|inf)$)[a-z_/][\w./+-]*"


@dataclass(frozen=True)
class Answer:
    """The best settings, and how they compare with the second best.

    Attributes:
        best: the settings that vary, such as "lr=0.01"; "" if none vary.
        result: such as "test accuracy 73.6 % (70.9 to 76.3; 3 seeds)".
        command: trains them.
        effect: the difference to `compared_with`, with its interval; "" if it is not known.
        verdict: on the difference.
        is_final: whether all runs have ended.
        name: what is best.
        compared_with: what it is compared with.
    """

    best: str
    result: str
    command: str
    effect: str = ""
    verdict: Verdict = "not measured"
    is_final: bool = True
    name: str = "Best"
    compared_with: str = "the second best"

    @property
    def text(self) -> str:
        """For example "Best: lr=0.01, test accuracy 73.6 % (70.9 to 76.3; 3 seeds)."."""
        best = f"{self.name}{' so far' * (not self.is_final)}: {self.best}, {self.result}."
        if not self.best:
            best = f"{self.result[0].upper()}{self.result[1:]}."
        if not self.effect:
            return best
        verdict = self.verdict.replace(": observed", "").capitalize()
        if self.verdict == "inconclusive":
            verdict += f" against {self.compared_with}"
        return f"{best} {verdict}: {self.effect}."


def answer_of(records: Sequence[Record], looks: Looks | None = None) -> Answer | None:
    """Compare the best configuration with the second best; None if no run is complete.

    Args:
        records: runs of a sweep or a study.
        looks: times at which claims are tested if seeds are added; None if seeds are fixed.
    """
    groups = [group for group in ranked(records) if group.accuracy]
    if not groups:
        return None
    keys = varied([record.config for record in records])
    labels = _labels(groups, keys)
    best = groups[0]
    first = best.complete[0]
    assert best.accuracy
    accuracy = MEASURES[main_metric(best.records)].with_interval(best.accuracy)
    answer = Answer(
        best=f"{short_names(keys)[0]}={labels[0]}" if len(keys) == 1 else labels[0],
        result=f"{first.evaluated_on} accuracy {accuracy}",
        command=train_command(first.config),
        is_final=all(record.status in ENDED for record in records),
    )
    if len(groups) == 1 or not answer.is_final:
        return answer
    levels: dict[Value, list[Record]] = {
        label: group.records for label, group in zip(labels, groups, strict=True)
    }
    result = judge_best(labels[0], labels[1], levels, looks)
    return replace(answer, effect="; ".join(result.effects), verdict=result.verdict)


def _labels(groups: Sequence[Group], keys: Sequence[str]) -> list[str]:
    """Return the varied settings of each group; of many, only those that are not the usual ones."""
    flat = [all_settings(group.records[0].config) for group in groups]
    if not keys:
        return [""] * len(flat)
    if len(keys) == 1:
        return [str(one.get(keys[0])) for one in flat]
    usual = {}
    if len(keys) > _MAX_SHOWN:
        counts = {key: Counter(str(one.get(key)) for one in flat) for key in keys}
        usual = {key: count.most_common(1)[0][0] for key, count in counts.items()}
    names = dict(zip(keys, short_names(keys), strict=True))
    labels = []
    for one in flat:
        shown = [key for key in keys if key in one and str(one[key]) != usual.get(key)]
        label = " ".join(f"{names[key]}={one[key]}" for key in shown)
        labels.append(label or "the most common settings")
    return labels


def train_command(config: RunConfig) -> str:
    """Return the command that trains a run."""
    shown = portable_settings(config)
    words = [_override(key, shown[key]) for key in differences(config)]
    return shlex.join(["python", "train.py", *words])


def _override(key: str, value: Any) -> str:
    if key in CAN_BE_CUSTOM and "." in str(value):
        key = f"{key}._target_"
    is_word = isinstance(value, str) and re.fullmatch(_WORD, value, re.ASCII | re.IGNORECASE)
    return f"{short(key)}={value if is_word else _quoted(value)}"


def _quoted(value: Any) -> str:
    """Return a value as Hydra parses it; a backslash is an escape before quotes only."""
    is_plain = isinstance(value, str) and not re.search(r'"|\\$', value)
    return f'"{value}"' if is_plain else json.dumps(value, ensure_ascii=False)


def portable_settings(config: RunConfig) -> dict[str, Any]:
    """Return the settings, with a relative path of the image folder if it is in the project."""
    if not config.data.place:
        return settings(config)
    root, project = Path(config.data.place), Path(config.paths.results).parent
    near = root.is_relative_to(project)
    return settings(config) | {"data.root": str(root.relative_to(project) if near else root)}


def answer_text(content: Mapping[str, Any], by_id: Mapping[str, Record]) -> str:
    """Return the answer as lines for the terminal; "" if no run is complete.

    Args:
        content: of sweep.json.
        by_id: its runs, as `read_sweep` returns them.
    """
    studies = runs_of_studies(content, by_id)
    answers = [(study.title, answer_of(runs, looks_of(study))) for study, runs in studies]
    looks = looks_of(*(study for study, _ in studies))
    answer = answers[0][1] if len(answers) == 1 else answer_of(list(by_id.values()), looks)
    if answer is None:
        return ""
    paragraphs = [shown_answer(answer)]
    if len(answers) > 1:
        paragraphs.append(_table(answer_rows(answers)))
    if answer.is_final and (claims := [row for of in studies for row in _claim_rows(*of)]):
        paragraphs.append(_table(claims) if len(studies) == 1 else _counts(claims))
    return "\n\n".join(paragraphs)


def shown_answer(answer: Answer) -> str:
    """Return the answer and its command, wrapped to the width of the terminal."""
    return f"{wrapped(answer.text)}\n{wrapped_command(answer.command)}"


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    return table([list(row.values()) for row in rows], list(rows[0]), columns())


def _claim_rows(study: Study, runs: Sequence[Record]) -> list[dict[str, str]]:
    levels = sorted_levels(runs, next(iter(study.vary)))
    return [
        {
            "verdict": result.verdict,
            "claim": result.claim.says,
            "effect": "; ".join(result.effects),
        }
        for result in judge_claims(study.claims, levels, looks_of(study))
    ]


def _counts(claims: Sequence[Mapping[str, str]]) -> str:
    counts = Counter(row["verdict"] for row in claims)
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return wrapped(f"The {len(claims)} claims: {verdicts}. The report has each of them.")


def answer_rows(answers: Sequence[tuple[str, Answer | None]]) -> list[dict[str, str]]:
    """Return one row per study, from column title to text.

    Args:
        answers: title and answer of each study.
    """
    return [
        {
            "study": title,
            "answer": f"{answer.best}: {answer.result}" if answer else "no complete run",
            "best against second best": answer.effect if answer else "",
            "verdict": answer.verdict if answer else "",
        }
        for title, answer in answers
    ]
