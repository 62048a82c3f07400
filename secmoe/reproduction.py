"""The reproduction page: published tables beside what this program prices, and where they differ.

Every figure is computed here: times from a calibration and from runs that are given, the rest from closed forms alone.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from protocols.he.params import PARAM_SETS
from protocols.model.tables import GELU_MINIMAX, GELU_PUBLISHED, Table
from protocols.pricing import published
from protocols.pricing.operators import Operators, SparseProtocol
from protocols.pricing.priced import Priced
from protocols.pricing.published import BUMBLEBEE, EXPERTS, IRON, SECMOE, TOKENS
from protocols.pricing.shapes import SHAPES
from secmoe.calibration import Calibration
from secmoe.cost_plot import Panel, plot
from secmoe.figures.audits import audits_section
from secmoe.figures.kept import Figure
from secmoe.figures.markdown import markdown_table
from secmoe.names import SECMOE as OURS
from secmoe.price_report import Report
from secmoe.priced_models import sparse_protocols
from sim.network import LAN, NETWORKS

PARAMS = PARAM_SETS["P64s"]
SMALL, LARGE = "moe-small", "switch-base"
MOST, FEWEST = 128, 8
GIGA = 1e9
PICTURE, TIMES = "reproduction.svg", "reproduction-time.svg"
GRID, REACH, MEAN_RANGE = 1 << 12, 8, (-5, 3)  # of the error of a table: steps of 2^-12


@dataclass(frozen=True)
class Comparison:
    """A real run and its prediction, as `secmoe bench --json` gives them; errors as fractions."""

    name: str
    cpu_s: float
    predicted_cpu_s: float
    error: float
    lan_error: float


@dataclass(frozen=True)
class Reproduction:
    """The page and its pictures. calibration: None leaves the timed parts without figures. runs: real ones. audits: of
    the rivals, None where they were not run."""

    calibration: Calibration | None
    runs: tuple[Comparison, ...] = ()
    audits: Figure | None = None

    @cached_property
    def protocols(self) -> dict[str, SparseProtocol]:
        return sparse_protocols()

    @cached_property
    def _known(self) -> dict[tuple[str, int, str], Priced]:
        return {}

    def priced(self, model: str, E: int, protocol: str = OURS) -> Priced:
        """A query of a published model."""
        key = model, E, protocol
        if key not in self._known:
            operators = Operators(SHAPES[model].with_experts(E), TOKENS, PARAMS, self.protocols[protocol])
            self._known[key] = Priced(operators)
        return self._known[key]

    @cached_property
    def report(self) -> Report:
        """The large model with every number of experts, under every protocol."""
        runs = [self.priced(LARGE, E, name) for name in self.protocols for E in EXPERTS]
        return Report(runs, LAN, self.calibration)

    @property
    def pictures(self) -> dict[str, str]:
        """By file name. That of times only with a calibration."""
        names, (traffic, times) = (PICTURE, TIMES), self.report.panels
        found: list[tuple[str, Panel]] = list(zip(names, (traffic, times), strict=True))
        chosen = found if self.calibration is not None else found[:1]
        return {name: plot(self.report.title, [panel]) for name, panel in chosen}

    @property
    def page(self) -> str:
        """Markdown."""
        parts = [
            "# What is published, and what this program gives",
            self._settings(),
            "## Traffic",
            self._traffic(),
            f"![Traffic by operator and number of experts]({PICTURE})",
            "## Growth of traffic",
            self._growth(),
            "## Where the bytes go",
            self._operators(),
            "## Times",
            "\n\n".join(self._times()),
            "## Error of GeLU",
            self._gelu(),
            "## Where we differ, and why",
            DIFFERENCES.format(*(_line_of(name) for name in (IRON, BUMBLEBEE))),
            "## Audits of the rivals",
            *audits_section(self.audits),
        ]
        return "\n\n".join(parts) + "\n"

    def _settings(self) -> str:
        shape, small = SHAPES[LARGE], SHAPES[SMALL]
        sets = {name: self.priced(LARGE, FEWEST, name).operators.sparse.params for name in self.protocols}
        rivals = ", ".join(f"`{name}` {own.name}" for name, own in sets.items() if own != PARAMS)
        return (
            "Written by `make reproduce`; no figure is typed by hand. Published: SecMoE [SecMoE], ring Z_2^64 with 18 "
            f"fractional bits, {TOKENS} input tokens, top-1, nodes of 64 virtual processors, offline and online "
            "together; Iron and BumbleBee as that paper measured them. Ours: parameters "
            f"{PARAMS.name} (N = {PARAMS.n}, kappa = {PARAMS.kappa}), the same ring and fraction, {TOKENS} tokens "
            f"through the encoder and {TOKENS} through the decoder, the table of the embedding public, the next token "
            "as the answer, the closed forms of the protocols (tests hold them against the wire, byte for byte), with "
            "the extension of correlated OTs, in one pool for the query; keys and base OTs, once per session, apart. "
            f"Sparse layers of rivals at sets of their own, which need no room for products of ciphertexts: {rivals}."
            "\n\n"
            f"`{LARGE}`: {shape.source}, {_billions(shape.with_experts(MOST).parameters)} parameters with {MOST} "
            f"experts. `{SMALL}`: {small.source}."
        )

    def _traffic(self) -> str:
        head = ["GB per query", *(f"{E} experts" for E in EXPERTS)]
        rows = [[f"{name}, published", *(f"{gb:.2f}" for gb in gbs)] for name, gbs in published.GIGABYTES.items()]
        for name in self.protocols:
            runs = [self.priced(LARGE, E, name) for E in EXPERTS]
            rows.append([f"`{name}`, ours", *(f"{run.online.nbytes / GIGA:.3f}" for run in runs)])
            rows.append(["of it selection and experts", *(f"{_of_experts(run) / GIGA:.3f}" for run in runs)])
            rows.append(["of it routing", *(f"{run.routing_nbytes / GIGA:.3f}" for run in runs)])
            rows.append(["set-up of a session, apart", *(f"{run.setup_nbytes / GIGA:.3f}" for run in runs)])
        ours = [self.priced(LARGE, E).online.nbytes / GIGA for E in EXPERTS]
        for rival in (BUMBLEBEE, IRON):
            ratios = [gb / own for gb, own in zip(published.GIGABYTES[rival], ours, strict=True)]
            rows.append([f"published {rival} / our `{OURS}`", *(f"{ratio:.2f}x" for ratio in ratios)])
        return markdown_table(head, rows)

    def _growth(self) -> str:
        head = ["from 32 to 128 experts", "published", "ours"]
        theirs = published.GIGABYTES[SECMOE]
        less, more = self.priced(LARGE, 32), self.priced(LARGE, MOST)
        rows = [
            ["traffic of a query", _ratio(theirs[3] / theirs[1]), _ratio(more.online.nbytes / less.online.nbytes)],
            ["traffic of selection and experts", "", _ratio(_of_experts(more) / _of_experts(less))],
            ["traffic of routing", "", _ratio(more.routing_nbytes / less.routing_nbytes)],
        ]
        return markdown_table(head, rows)

    def _operators(self) -> str:
        runs = [self.priced(LARGE, E) for E in (EXPERTS[0], MOST)]
        head = ["operator", *(f"MB, {run.operators.shape.layer.E} experts" for run in runs), "messages", "rounds"]
        rows = [
            [
                last.name,
                *(f"{group.nbytes / 1e6:.2f}" for group in (first, last)),
                f"{last.total(lambda cost: cost.messages):,}",
                f"{last.total(lambda cost: cost.rounds):,}",
            ]
            for first, last in zip(runs[0].by_operator, runs[1].by_operator, strict=True)
        ]
        rounds = runs[1].online.rounds
        told = f"Rounds of the whole query: {rounds:,}; some operators run side by side."
        return f"{markdown_table(head, rows)}\n\n{told}"

    def _times(self) -> Iterator[str]:
        if self.calibration is None:
            yield "No calibration: run `secmoe bench --calibrate`, then `make reproduce`."
            return
        c = self.calibration
        yield (
            f"Predicted from counted kernels as they took on {c.machine} ({c.made} UTC), CPU time of both parties on "
            "one core each; published: 64 virtual processors a party."
        )
        rows = []
        for minutes in published.MINUTES:
            priced, network = self.priced(minutes.model, MOST), NETWORKS[minutes.network]
            seconds = Report([priced], network, c).seconds(priced)
            assert seconds is not None  # there is a calibration
            told = (minutes.iron, minutes.bumblebee, minutes.secmoe)
            name = f"{minutes.model}, {minutes.network}"
            rows.append([name, *(f"{t:.2f}" for t in told), f"{seconds / 60:.2f}"])
        theirs = [f"{name}, published" for name in (IRON, BUMBLEBEE, SECMOE)]
        head = [f"minutes, {MOST} experts", *theirs, f"`{OURS}`, ours"]
        yield markdown_table(head, rows)
        less, more = (c.cpu(self.priced(LARGE, E).online) for E in (32, MOST))
        small, large = self.priced(SMALL, FEWEST), self.priced(LARGE, MOST)
        sizes = large.operators.shape.parameters / small.operators.shape.parameters
        longer = c.cpu(large.online) / c.cpu(small.online)
        growth = published.COMPUTATION_32_TO_128
        rows = [
            ["computation, 32 to 128 experts", f"+{growth[SECMOE]:.0%} (baselines +{growth['baselines']:.0%})",
             f"{more / less - 1:+.0%}"],
            ["model size, MoE-Small with 8 to Switch-Base with 128 experts", f"{published.MODEL_GROWTH:g}x",
             f"{sizes:.1f}x"],
            ["computation for it", f"{published.TIME_GROWTH:g}x (runtime)", f"{longer:.1f}x"],
        ]  # fmt: skip
        yield markdown_table(["growth", "published", "ours, predicted"], rows)
        yield f"![Time by operator and number of experts]({TIMES})"
        if self.runs:
            yield "Predictions beside real runs, none of which went into the calibration (`secmoe bench`):"
            rows = [
                [run.name, *(f"{t:.2f}" for t in (run.cpu_s, run.predicted_cpu_s)),
                 *(f"{error:+.0%}" for error in (run.error, run.lan_error))]
                for run in self.runs
            ]  # fmt: skip
            yield markdown_table(["d, f, experts, tokens", "CPU s", "predicted", "error", "error of LAN time"], rows)

    def _gelu(self) -> str:
        low, high = MEAN_RANGE
        head = ["six quadratics", "largest error, [-8, 8]", "mean error, [-5, 3]", "mean error, [-8, 8]"]
        rows = [["published", f"{published.GELU_MAX_ERROR:.1e}", f"{published.GELU_MEAN_ERROR:.1e}", ""]]
        for name, table in (("published table, computed here", GELU_PUBLISHED), ("our minimax table", GELU_MINIMAX)):
            wide, inner = _errors(table, -REACH, REACH), _errors(table, low, high)
            means = (sum(errors) / len(errors) for errors in (inner, wide))
            rows.append([name, f"{max(wide):.2e}", *(f"{mean:.2e}" for mean in means)])
        return markdown_table(head, rows) + f"\n\nAgainst GeLU by the error function, on the grid of step 1/{GRID}."


DIFFERENCES = """\
- What is counted. The paper says "offline and online"; it does not say whether set-up, the embedding and the head are
  counted, nor whether the decoder is. Here every operator of every block of both streams is, and the head.
- Attention. With norms it is the larger part of our bytes: its products of shares and softmax are exact. Routing and
  experts together are the part that is compared. How the paper prices attention it does not say.
- The rest of the Transformer. Only sparse layers differ between the protocols. Norms, attention and the head are ours
  under all of them, exact to the last bit, where the published systems approximate some.
- Least squares through the published rows give {} for Iron and {} for BumbleBee: SecMoE is BumbleBee's intercept and
  about one expert.
- Shape. Of MoE-Small only the size is published; ours is derived.
- Machine. Published times are of 64 virtual processors a party; ours of one core."""


def _errors(table: Table, low: int, high: int) -> list[float]:
    found, row = [], 0
    for step in range(low * GRID, high * GRID + 1):
        x = step / GRID
        while row < len(table.breakpoints) and x > table.breakpoints[row]:
            row += 1
        value = sum(c * x**i for i, c in enumerate(table.coefficients[row]))
        found.append(abs(value - x * (1 + math.erf(x / math.sqrt(2))) / 2))
    return found


def _line_of(rival: str) -> str:
    """The line through a published row."""
    fit = statistics.linear_regression(EXPERTS, published.GIGABYTES[rival])
    return f"{fit.intercept:.3g} + {fit.slope:.3g} E GB"


def _of_experts(run: Priced) -> int:
    return next(group.nbytes for group in run.by_operator if group.name == "selection and experts")


def _billions(parameters: int) -> str:
    return f"{parameters / GIGA:.2f} billion"


def _ratio(value: float) -> str:
    return f"{value:.3f}x"
