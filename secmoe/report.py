"""What `secmoe run` prints."""

from __future__ import annotations

import math
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from protocols.he.service import DEFAULT_BUDGET
from secmoe.checked import lines
from secmoe.names import SECMOE
from secmoe.run import Kept, Outcome, network_times
from sim.functionality import Functionality
from sim.network import NETWORKS
from sim.role import CLIENT, SERVER, Role
from sim.world import Execution
from transcripts.costs import cost_by_scope
from transcripts.report import BAD, STYLES, Line
from transcripts.show import COST_TITLES, print_costs
from transcripts.verdicts import DECLARED

SHOWN_LEVELS = 4
IN_THE_CLEAR = "hidden states before the layer, the rest of the model, and this comparison"


def print_outcome(console: Console, outcome: Outcome, networks: tuple[str, ...]) -> None:
    """Verdict, costs, what each party learns, what was and was not checked, and where the transcript is."""
    run, shape = outcome.run, outcome.run.shape
    kind = f"{'gated ' if shape.gated else ''}{run.activation} experts {shape.d} -> {shape.f} -> {shape.d}"
    _line(
        console,
        f"{run.model}, layer {run.layer}: {run.tokens} tokens, top-{shape.k} of {shape.E} {kind}\n"
        f"{run.ring} with {run.params.frac_bits} fractional bits, parameters {run.params.name}, "
        + (f"order {run.order}, truncation {run.truncation}" if run.protocol == SECMOE else f"protocol {run.protocol}"),
    )
    _line(console, *_verdict(outcome))
    _line(console, _float_line(outcome))
    sizes = f"{run.tokens} tokens, d={shape.d}, f={shape.f}, E={shape.E}, k={shape.k}, layer order, ring, parameter set"
    functionality = run.declared.realises
    provable = not functionality.leaks_route  # what is declared to leak leaves nothing to prove
    privacy = lines(outcome.checked, outcome.transcript if provable else None)
    print_kept(console, outcome, functionality, sizes, privacy, IN_THE_CLEAR, networks)


def print_kept(
    console: Console,
    outcome: Kept,
    functionality: Functionality,
    public: str,
    privacy: Iterable[Line],
    clear: str,
    networks: tuple[str, ...],
) -> None:
    """Costs, what each party learns, what was and was not checked (`privacy`), and the record of any kept run."""
    console.print()
    cpu = outcome.setup.cpu_by_scope | outcome.online.cpu_by_scope
    named = {(role, scope or "setup"): seconds for (role, scope), seconds in cpu.items()}
    print_costs(console, cost_by_scope([*outcome.setup.messages, *outcome.online.messages], named, levels=SHOWN_LEVELS))
    console.print()
    console.print(_phases(outcome, networks))
    console.print()
    _learned(console, functionality, public)
    for tone, text in privacy:
        _line(console, text, STYLES[tone])
    budget = f"budget of the session 2^{math.log2(DEFAULT_BUDGET):.0f}"
    _line(console, f"circuit privacy of the responses: epsilon 2^-{outcome.epsilon_bits:.1f}, {budget}")
    _line(console, f"in the clear, in neither cost nor views: {clear}")
    if outcome.seeded:
        _line(console, "SEEDED: whoever has the seed learns both parties' secrets", "bold red")
    _line(console, f"transcript {outcome.transcript}\n    digest {outcome.digest}\n    seal   {outcome.seal}")


def _line(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style=style), soft_wrap=True)


def _verdict(outcome: Outcome) -> tuple[str, str]:
    c, words = outcome.comparison, outcome.run.tokens * outcome.run.shape.d
    error = f"largest error {c.max_error_ulp} ulp"
    if c.exact is not None:
        if c.exact:
            return f"EXACT: all {words} output words equal the fixed-point oracle; {error}", "bold green"
        return f"MISMATCH: the output differs from the fixed-point oracle; {error}", "bold red"
    if c.within_bound:
        return (
            f"WITHIN BOUND: all {words} output words are where one-ulp truncation may put them; {error}",
            "bold green",
        )
    return f"OUT OF BOUND: one-ulp truncation does not explain the output; {error}", "bold red"


def _float_line(outcome: Outcome) -> str:
    c, n = outcome.comparison, outcome.run.tokens
    routes = f"routes agree for {round(c.route_agreement * n)} of {n} tokens"
    return f"against the float layer: largest error {c.max_error_float:.2e}, {routes}"


def _phases(outcome: Kept, networks: tuple[str, ...]) -> Table:
    table = Table("phase", box=None, pad_edge=False)
    for title in (*COST_TITLES, *(f"{name} s" for name in networks)):
        table.add_column(title, justify="right", no_wrap=True)
    times = network_times(outcome)
    for at, (name, e) in enumerate((("set-up", outcome.setup), ("online", outcome.online))):
        cost = e.cost
        figures = [f"{n:,}" for n in (cost.c2s, cost.s2c, cost.messages, cost.rounds)]
        seconds = [*_cpu(e), *(times[network][at] for network in networks)]
        table.add_row(name, *figures, *(f"{s:.3f}" for s in seconds))
    return table


def _cpu(execution: Execution) -> list[float]:
    return [execution.cpu(role) for role in Role]


def _learned(console: Console, functionality: Functionality, public: str) -> None:
    """By design: the public parameters, and what the functionality declares."""
    _line(console, f"both parties know the public parameters: {public}")
    for role, leaks in ((CLIENT, functionality.leaks_client), (SERVER, functionality.leaks_server)):
        told = ", ".join(leaks) or "nothing beyond its shares"
        _line(console, f"the {role.value} learns by design ({functionality.name}): {told}")
        if functionality.leaks_route and leaks:
            _line(console, f"{DECLARED}: the {role.value} is told {told}", STYLES[BAD])


ALL_NETWORKS = tuple(NETWORKS)
