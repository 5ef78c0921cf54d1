"""How seeds should be added until a claim is settled: false positives, power, seeds that it takes.

    python benchmarks/sequential.py

Simulates paired differences between two levels, normal with standard deviation 1, and judges them
after every seed from 3 to 10 in several ways; nothing is trained. Writes
benchmarks/results/sequential.md.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri, stdtr
from scipy.stats import beta

from cifar_exp.reports.sequential import crossing_probability, level_of_each_look

FIRST, LAST = 3, 10
EFFECTS = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0)  # in standard deviations of a difference
OVERALL = 0.05
_AT_ONCE = 50_000  # studies simulated together

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """When a claim is settled.

    Attributes:
        name: in the table.
        settled: given p values and t statistics of all looks, `(studies, looks)`, whether each
            look settles the claim.
        first: seeds at the first look.
        last: seeds at the last look.
    """

    name: str
    settled: Callable[[Array, Array], NDArray[np.bool_]]
    first: int = FIRST
    last: int = LAST


def nominal(levels: list[float]) -> Callable[[Array, Array], NDArray[np.bool_]]:
    """Settle a claim where the p value of a look is at most the level of that look."""
    return lambda p, _: p <= np.array(levels)


def spent(spend: Callable[[float], float]) -> list[float]:
    """Return the level of each look so that the false positives until look k are spend(k / K)."""
    levels: list[float] = []
    looks = LAST - FIRST + 1
    for look in range(1, looks + 1):
        target = spend(look / looks)

        def excess(level: float, target: float = target) -> float:
            return crossing_probability([*levels, level], FIRST) - target

        levels.append(float(brentq(excess, 1e-12, OVERALL)) if levels else target)
    return levels


def e_value(scale: float) -> Callable[[Array, Array], NDArray[np.bool_]]:
    """Settle a claim where the e-value of a normal prior on the effect size reaches 1 / 0.05.

    Source: Lai, 1976; Grünwald, de Heide and Koolen, 2024 (the scale-invariant t test).
    """
    n = np.arange(FIRST, LAST + 1)

    def settled(_: Array, t: Array) -> NDArray[np.bool_]:
        shrink = 1 + n * scale**2
        ratio = (1 + t**2 / (n - 1)) / (1 + t**2 / ((n - 1) * shrink))
        return np.asarray(ratio ** (n / 2) / np.sqrt(shrink) >= 1 / OVERALL)

    return settled


def rules() -> list[Rule]:
    """Return the ways that are compared."""
    looks = LAST - FIRST + 1
    constant = level_of_each_look(FIRST, LAST, OVERALL)
    edge = float(ndtri(1 - OVERALL / 2))
    return [
        *(Rule(f"{n} seeds, fixed", nominal([OVERALL]), n, n) for n in (3, 5, 10)),
        Rule("0.05 at every look (wrong)", nominal([OVERALL] * looks)),
        Rule(f"constant level {constant:.4f}", nominal([constant] * looks)),
        Rule("level spent evenly", nominal(spent(lambda share: OVERALL * share))),
        Rule(
            "level spent late (O'Brien-Fleming)",
            nominal(spent(lambda share: 2 * float(1 - ndtr(edge / math.sqrt(share))))),
        ),
        *(Rule(f"e-value, prior scale {scale:g}", e_value(scale)) for scale in (1.0, 3.0)),
    ]


def simulate(effect: float, studies: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return p values and t statistics after each seed. Shape: `(studies, 8)` both."""
    values = rng.normal(effect, 1, (studies, LAST))
    n = np.arange(1, LAST + 1)
    means = np.cumsum(values, 1) / n
    squares = np.cumsum(values**2, 1) - n * means**2
    n, means, squares = n[FIRST - 1 :], means[:, FIRST - 1 :], squares[:, FIRST - 1 :]
    t = means / np.sqrt(squares / (n - 1) / n)
    return 2 * stdtr(n - 1, -np.abs(t)), t


def main() -> None:
    """Print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--studies", type=int, default=400_000, help="simulated for each effect")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args()
    compared = rules()
    settled = {rule.name: dict.fromkeys(EFFECTS, 0) for rule in compared}
    seeds = {rule.name: dict.fromkeys(EFFECTS, 0) for rule in compared}
    for effect in EFFECTS:
        rng = np.random.default_rng(0)
        for start in range(0, given.studies, _AT_ONCE):
            studies = min(_AT_ONCE, given.studies - start)
            p, t = simulate(effect, studies, rng)
            for rule in compared:
                looks = slice(rule.first - FIRST, rule.last - FIRST + 1)
                hits = rule.settled(p[:, looks], t[:, looks])
                found = hits.any(1)
                taken = np.where(found, rule.first + hits.argmax(1), rule.last)
                settled[rule.name][effect] += int(found.sum())
                seeds[rule.name][effect] += int(taken.sum())
    text = table(compared, settled, seeds, given.studies)
    print(text)
    (given.results / "sequential.md").write_text(text + "\n", "utf-8")


def table(
    compared: list[Rule],
    settled: dict[str, dict[float, int]],
    seeds: dict[str, dict[float, int]],
    studies: int,
) -> str:
    """Return the table as Markdown: a row for each rule."""
    effects = [effect for effect in EFFECTS if effect]
    lines = [
        "# Adding seeds until a claim is settled",
        "",
        f"Paired differences, normal, {studies:,} simulated studies for each effect (in standard "
        f"deviations of a difference). Looks after every seed from {FIRST} to {LAST}. "
        "Cells: power, mean number of seeds.",
        "",
        f"| rule | false positives (99 % bound) | {' | '.join(f'{e:g} sd' for e in effects)} | "
        "seeds at no effect |",
        f"|---|---|{'---|' * (len(effects) + 1)}",
    ]
    for rule in compared:
        wrong = settled[rule.name][0.0]
        bound = float(beta.ppf(0.99, wrong + 1, studies - wrong))
        cells = [
            f"{settled[rule.name][e] / studies:.3f}, {seeds[rule.name][e] / studies:.1f}"
            for e in effects
        ]
        lines.append(
            f"| {rule.name} | {wrong / studies:.4f} ({bound:.4f}) | {' | '.join(cells)} | "
            f"{seeds[rule.name][0.0] / studies:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
