"""The property test: on real cryptography, for what Hypothesis draws, the outputs are the functionality's."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis.errors import Flaky

from protocols.entry import Case, Entry
from protocols.he.noise import EpsilonExhausted
from secmoe.checks.outcome import FAILED, TESTED, Outcome, Subject, raised, shapes
from secmoe.examples import Example, both, few, wrong
from secmoe.strategies import examples
from sim.world import Execution, Session
from transcripts.ordinary import REAL, services_of

EXAMPLES, EXAMPLES_WITH_HE = 25, 8  # per case; homomorphic encryption takes a hundred times as long


class _Falsified(Exception):
    """An example that the protocol gets wrong."""


class Runner:
    """Runs one case again and again on real cryptography: in one session, a fresh one after a run that raised."""

    def __init__(self, entry: Entry, case: Case) -> None:
        self.entry, self.case = entry, case
        self._session: Session | None = None

    def __call__(self, example: Example) -> Execution:
        used, self._session = self._session, None
        session = used or Session(services_of(self.case.plans, REAL))
        prepare = getattr(session.services[-1], "prepare", None)
        client, server = both(self.case, example, prepare)
        try:
            execution = session.run(self.entry.proto, client, server, **self.case.public)
        except EpsilonExhausted:
            if used is None:
                raise
            return self(example)  # many examples answer more often than one session may
        self._session = session
        return execution


def property_test(subject: Subject) -> Outcome:
    """The reconstructed outputs equal the functionality, bit for bit, for values and shares that Hypothesis draws."""
    entry = subject.entry
    counts = [examples_of(case) for case in entry.cases]
    about = f"real cryptography, n = {sum(counts)} (edge words forced); {shapes(entry.cases)}"
    for case in entry.cases:
        problem = falsified(entry, case)
        if problem is not None:
            advice = "shrunk to a small example: run the text by hand on it; is the functionality's range declared?"
            return Outcome("property", FAILED, about, f"{case.name}: {problem}", advice)
    return Outcome("property", TESTED, about)


def examples_of(case: Case) -> int:
    return EXAMPLES_WITH_HE if case.plans else EXAMPLES


def falsified(entry: Entry, case: Case) -> str | None:
    """None, or the smallest example found that the protocol gets wrong, and how."""
    run, latest = Runner(entry, case), [""]
    shrink = () if case.plans else (Phase.shrink,)

    @settings(
        max_examples=examples_of(case),
        deadline=None,
        database=None,
        phases=(Phase.generate, *shrink),
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
    )
    @given(examples(case))
    def realised(example: Example) -> None:
        try:
            problem = wrong(entry, case, example, run(example))
        except Exception as error:
            problem = raised(entry, error)
        if problem is not None:
            latest[0] = f"{problem}, at {shown(case, example)}"
            raise _Falsified

    try:
        realised()
    except _Falsified:
        return latest[0]
    except Flaky:
        return f"{latest[0]} (not every time: it depends on the tapes, or on something outside the protocol)"
    return None


def shown(case: Case, example: Example) -> str:
    """The inputs of an example: values, and the client's share of what is shared."""
    told = []
    for i, (secret, value, mask) in enumerate(zip(case.secrets, example.values, example.masks, strict=True)):
        shared = f" (client's share {few(mask)})" if secret.owner is None else ""
        told.append(f"x{i} = {few(value)}{shared}")
    return "; ".join(told) or "no input"
