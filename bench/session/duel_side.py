"""One side of a duel while it is measured, asked by the cases that both sides share."""

from __future__ import annotations

from collections.abc import Sequence

from bench.launch.stepwise import Turns
from bench.schema.case import Case
from bench.schema.duel import Spec
from bench.schema.launch import LaunchRecord, Round
from bench.session.attempts import RunUnderWay
from fmnist_models.errors import UserError


class DuelSide:
    """The run of a side, whose cases have the backend that the side names.

    Args:
        run: the side's run.
        spec: the side.
    """

    def __init__(self, run: RunUnderWay, spec: Spec) -> None:
        self._run = run
        self._spec = spec

    def measured(self, case: Case, launch: int) -> tuple[LaunchRecord | None, list[Round]]:
        """The last attempt of a launch with its rounds; (None, []) where there was none."""
        return self._run.measured(self._spec.case_of(case), launch)

    def forks(self, case: Case) -> bool:
        """Whether launches of a case are forks of a template, not fresh processes."""
        return self._run.forks(self._spec.case_of(case))

    def get_ready(self, case: Case, launch: int, template: int) -> None:
        """Start the template of the next attempt of a launch, and do not wait for it."""
        self._run.get_ready(self._spec.case_of(case), launch, template)

    def attempt(
        self, case: Case, launch: int, *, pauses: bool, template: int
    ) -> Turns[LaunchRecord]:
        """Measure one attempt of a launch (`RunUnderWay.attempt`)."""
        own = self._spec.case_of(case)
        return self._run.attempt(own, launch, pauses=pauses, template=template)

    def keep(self, record: LaunchRecord) -> None:
        """Write a launch to disk."""
        self._run.keep(record)


def refuse_one_backend_for_several(label: str, spec: Spec, cases: Sequence[Case]) -> None:
    """Refuse a side whose backend makes one case of several, whose launches it would share.

    Raises:
        UserError: cases of the duel differ in their backends alone.
    """
    if len({spec.case_of(case) for case in cases}) < len(cases):
        named = ",".join(dict.fromkeys(case.backend for case in cases))
        raise UserError(
            f"--backends {named}: side {label} trains each of these cases with {spec.backend}: "
            "leave --backends out"
        )
