"""The commits between GOOD and BAD, as Git tells them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.schema.bisect import BisectPlan
from bench.session.revision import git, text_of
from fmnist_models.errors import UserError


@dataclass(frozen=True, slots=True)
class GitHistory:
    """The commits that BAD contains and GOOD does not, of a repository that is only read.

    Git orders them (`git rev-list --bisect-all`), as it does for `git bisect`. With merges, the
    candidates are all commits that can be reached from BAD and not from GOOD; a merge is tried as
    any other commit, and is named where all that it merges is found not worse.

    Attributes:
        folder: the folder that holds the user's model.
        good, bad: the commits at both ends.
        first_parent: follow only the first parent of each merge.
        paths: only commits that touch these, relative to `folder`; all where it is empty.
    """

    folder: str
    good: str
    bad: str
    first_parent: bool = False
    paths: tuple[str, ...] = ()

    @classmethod
    def of(cls, plan: BisectPlan) -> GitHistory:
        """The history that a bisection searches."""
        return cls(plan.repository, plan.good, plan.bad, plan.first_parent, plan.paths)

    def candidates(self, bad: str, goods: Sequence[str]) -> list[tuple[str, int]]:
        """As `CommitHistory.candidates` of `bench.verdicts.bisect_search`."""
        found = []
        for line in self._listed(("--bisect-all",), bad, goods):
            commit, _, rest = line.partition(" ")
            distance = next(word for word in rest.strip("()").split(", ") if word[:5] == "dist=")
            found.append((commit, int(distance.removeprefix("dist="))))
        return found

    def in_order(self, commits: Sequence[str]) -> list[str]:
        """These commits, the oldest first."""
        wanted = set(commits)
        every = self._listed(("--topo-order", "--reverse"), self.bad, [self.good])
        return [commit for commit in every if commit in wanted]

    def parent(self, commit: str) -> str:
        """The first parent of a commit.

        Raises:
            UserError: it has none, or the clone does not have it.
        """
        return text_of(git(self.folder, "rev-parse", "--verify", f"{commit}^1"))

    def told(self, commit: str) -> str:
        """The date and the subject of a commit, on one line."""
        words = ("show", "--no-patch", "--format=%cs %s", commit)
        return " ".join(text_of(git(self.folder, *words)).split())

    def _listed(self, form: Sequence[str], bad: str, goods: Sequence[str]) -> list[str]:
        line = ("--first-parent",) if self.first_parent else ()
        not_in = [f"^{good}" for good in goods]
        words = ("rev-list", *form, *line, bad, *not_in, "--", *self.paths)
        return text_of(git(self.folder, *words)).splitlines()


def refuse_unsearchable(plan: BisectPlan) -> None:
    """Refuse a history in which no commit between GOOD and BAD can be found.

    Raises:
        UserError: GOOD is BAD or is not among its ancestors, the clone is shallow, or no commit
            between them touches the paths.
    """
    folder, good, bad = plan.repository, plan.good, plan.bad
    names = f"GOOD {good[:12]}", f"BAD {bad[:12]}"
    if good == bad:
        raise UserError(f"GOOD and BAD are both {good[:12]}: name two commits")
    shallow = text_of(git(folder, "rev-parse", "--is-shallow-repository")) == "true"
    if shallow:
        raise UserError(
            f"--checkout {folder}: the clone is shallow, so that commits between may be missing: "
            "git fetch --unshallow"
        )
    if text_of(git(folder, "rev-list", "--max-count=1", good, f"^{bad}")):
        turned = not text_of(git(folder, "rev-list", "--max-count=1", bad, f"^{good}"))
        remedy = "name them the other way round" if turned else "name an ancestor of BAD"
        raise UserError(f"{names[0]} is no ancestor of {names[1]}: {remedy}")
    if (
        plan.first_parent
        and good not in text_of(git(folder, "rev-list", "--first-parent", bad)).splitlines()
    ):
        raise UserError(
            f"--first-parent: {names[0]} is not on the line of first parents of {names[1]}: leave "
            "--first-parent out, or name a commit of that line"
        )
    if not GitHistory.of(plan).candidates(bad, [good]):
        raise UserError(
            f"{' '.join(plan.paths)}: no commit from {names[0]} to {names[1]} touches it: name "
            "other paths, or none"
        )
