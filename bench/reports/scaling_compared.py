"""The efficiencies of two runs in words: which scales better, where a test says it."""

from __future__ import annotations

from collections.abc import Sequence

from bench.verdicts.scaling import Efficiency, Scaled


def efficiency_lines(cases: Sequence[Scaled], name: str, baseline: str) -> list[str]:
    """A line for each case that a candidate and the baseline know the efficiency of.

    Args:
        cases: these cases.
        name: what the candidate is called in the lines.
        baseline: what the baseline is called.
    """
    lines = []
    for case in cases:
        told = f"{case.case}: efficiency {_text(case.candidate)} against {_text(case.baseline)}"
        better = {True: name, False: baseline, None: ""}[case.is_better]
        lines.append(f"{told}: {better} scales better" if better else told)
    return lines


def _text(own: Efficiency) -> str:
    ends = "" if own.low is None else f" ({own.low:.2f} to {own.high:.2f})"
    return f"{own.value:.2f}{ends}"
