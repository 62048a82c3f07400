"""The command line's grammar: every command of `secmoe` with its options, and the function that runs it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import NoReturn

from secmoe.exit import USAGE
from secmoe.names import LAYER_PROTOCOLS, SECMOE
from secmoe.plain import one_line
from secmoe.version import program_version

MOST_DIGITS = 18

Command = Callable[[argparse.Namespace], int]


@dataclass(frozen=True)
class Later:
    """A function of a module of this package, which is imported when it is called: models and kernels take a second."""

    name: str

    def resolved(self) -> Command:
        module, function = self.name.split(".")
        found: Command = getattr(import_module(f"secmoe.{module}"), function)
        return found

    def __call__(self, options: argparse.Namespace) -> int:
        return self.resolved()(options)


RUN = Later("running.run")
PROVE, PROVE_RUN = Later("proving.prove"), Later("leakage.prove_run")


def _prove(options: argparse.Namespace) -> int:
    return (PROVE if options.run is None else PROVE_RUN)(options)


class _Parser(argparse.ArgumentParser):
    """Errors on one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {one_line(message)}; see {self.prog} --help\n")


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0, got {text!r}")
    if len(text) > MOST_DIGITS:
        raise argparse.ArgumentTypeError(f"expected at most {MOST_DIGITS} digits, got {len(text)}")
    return int(text)


def command_line() -> argparse.ArgumentParser:
    """The parser of all commands; `command` of what it returns is the function to call."""
    about = "Private Mixture-of-Experts inference: run it on real cryptography, record it, replay it."
    parser = _Parser("secmoe", description=about, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"secmoe {program_version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, function: str | Command, told: str, *shared: _Parser) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=told, description=told, parents=list(shared), allow_abbrev=False)
        sub.set_defaults(command=Later(function) if isinstance(function, str) else function)
        sub.add_argument("--json", action="store_true", help="print one JSON object instead")
        return sub

    run = command("run", RUN, "run a private Mixture-of-Experts model, or one layer, on a real input and record it")
    run.add_argument("text", nargs="?", metavar="TEXT", help="a text for a text model")
    run.add_argument("--input", metavar="N|FILE", help="a held-out item of the model, or a file")
    told = "sms (default), digits, topic, or a model file"
    run.add_argument("--model", default="sms", metavar="NAME|PATH", help=told)
    told = "instead: a sparse layer (--layer I) of a Hugging Face checkpoint, from its folder"
    run.add_argument("--checkpoint", metavar="DIR", help=told)
    told = "with --checkpoint: random hidden states of N tokens (or --input FILE.npy)"
    run.add_argument("--tokens", type=_natural, metavar="N", help=told)
    told = "only this layer runs privately (default: the whole model; with another protocol than secmoe, layer 0)"
    run.add_argument("--layer", type=_natural, metavar="I", help=told)
    run.add_argument("--answer", choices=["class", "logits"], help="what the client learns of the model (class)")
    told = "; ".join(f"{name}: {what}" for name, what in LAYER_PROTOCOLS.items())
    run.add_argument("--protocol", choices=list(LAYER_PROTOCOLS), default=SECMOE, help=f"{told} (default {SECMOE})")
    run.add_argument("--order", choices=["reassociated", "literal"], default="reassociated", help="evaluation order")
    run.add_argument("--gelu", choices=["minimax", "published"], help="table of Protocol 2 (default minimax)")
    run.add_argument("--truncation", choices=["faithful", "one-ulp"], help="truncation mode (faithful) of a layer")
    run.add_argument("--params", default="P64s", metavar="NAME|FILE", help="parameter set (default P64s), or .json")
    run.add_argument("--pad", type=_natural, metavar="N", help="pad to a public length of N tokens")
    run.add_argument("--network", choices=["lan", "wan"], help="give virtual times for this network only")
    run.add_argument("--seed", type=_natural, metavar="N", help="INSECURE, for tests: all randomness from this number")
    run.add_argument("--record-private", action="store_true", help="keep each party's private side, for replay")
    run.add_argument("--out", metavar="FILE", help="the transcript, NAME.secmoe (default: a fresh file in ./runs)")

    inspect = command("inspect", "kept.inspect", "show a kept run: summary, cost by scope, messages")
    inspect.add_argument("transcript", metavar="RUN.secmoe")
    inspect.add_argument("--scope", default="", metavar="S", help="only this scope and below; lists its messages")
    inspect.add_argument("--view", choices=["client", "server"], help="only what this party receives, in every form")
    form = inspect.add_mutually_exclusive_group()
    form.add_argument("--list", action="store_true", help="list the messages")
    form.add_argument("--message", type=_natural, metavar="N", help="show message N with its bytes")
    form.add_argument("--sql", metavar="QUERY", help="answer one SELECT over the tables run, message, payload")
    form.add_argument("--html", metavar="FILE", help="write all of it as one offline page, NAME.html")

    told = "compare two kept runs: labels, order, sizes, rounds; content is only counted"
    diff = command("diff", "kept.diff_runs", told)
    diff.add_argument("left", metavar="A.secmoe")
    diff.add_argument("right", metavar="B.secmoe")

    replay = command("replay", "kept.replay_run", "re-execute each party alone and confirm every byte of a kept run")
    replay.add_argument("transcript", metavar="RUN.secmoe")

    told = "keep the link trace of a run of SPU, to inspect and compare it"
    foreign = command("import", "importing.import_trace", told)
    foreign.add_argument("traces", nargs="+", metavar="FILE", help="the trace of rank 0, then that of rank 1")
    foreign.add_argument("--out", metavar="FILE", help="the transcript, NAME.secmoe (default: a fresh file in ./runs)")
    foreign.add_argument("--client-rank", type=int, choices=[0, 1], default=0, help="which rank is the client")
    length = "the run's trace_content_length (default 100, as in SPU)"
    foreign.add_argument("--content-length", type=_natural, default=100, metavar="N", help=length)
    root = "RANK is the root of the GATHER or BCAST of this key or tag; repeatable"
    foreign.add_argument("--root", action="append", default=[], metavar="KEY=RANK", help=root)

    command("catalog", "listing.catalog", "list every protocol")

    cost = command("cost", "pricing.run_cost", "what a private query costs at full model size, by operator and layer")
    told = "switch-base (default), moe-small, mixtral-8x7b, olmoe, deepseekmoe, or a checkpoint's folder or config.json"
    cost.add_argument("--model", default="switch-base", metavar="NAME|PATH", help=told)
    cost.add_argument("--experts", metavar="LIST", help="numbers of experts, such as 16,32,64,128 (the model's own)")
    cost.add_argument("--tokens", type=_natural, default=8, metavar="N", help="length of each stream (default 8)")
    told = "how sparse layers run: names with commas, or all (default secmoe)"
    cost.add_argument("--protocol", default="secmoe", metavar="LIST", help=told)
    told = "lan (default), wan, or a JSON file with name, latency_s, bandwidth"
    cost.add_argument("--network", default="lan", metavar="NAME|FILE", help=told)
    cost.add_argument("--params", default="P64s", metavar="NAME|FILE", help="parameter set (default P64s), or .json")

    cost.add_argument("--calibration", metavar="FILE", help="rates of kernels, for times (calibration.json, if there)")
    cost.add_argument("--plot", metavar="FILE", help="bytes and time as a picture, NAME.svg")
    cost.add_argument("--html", metavar="FILE", help="write all of it as one offline page, NAME.html")

    bench = command("bench", "benching.run_bench", "predicted times beside real runs; or what predictions are made of")
    bench.add_argument("--calibrate", action="store_true", help="measure the kernels of this machine, and keep them")
    told = "rates of kernels: for --calibrate to write (calibration.json), else to predict from, not measured in turns"
    bench.add_argument("--calibration", metavar="FILE", help=told)
    tables = ["layers", "blocks", "experts", "extension"]
    bench.add_argument("--table", choices=tables, help="instead: the rows of this table of the README, run for real")

    told = "write the page of published tables beside what this program gives"
    again = command("reproduce", "reproducing.run_reproduce", told)
    place = "an existing folder (default docs); its figures/*.json give what was measured"
    again.add_argument("folder", nargs="?", default="docs", metavar="DIR", help=place)
    again.add_argument("--readme", metavar="FILE", help="a text whose marked tables are made anew as well")

    told = "what a Hugging Face checkpoint holds, and what rounding does to its weights"
    held = command("model", "checkpointed.show_checkpoint", told)
    held.add_argument("folder", metavar="DIR", help="with config.json and safetensors")
    held.add_argument("--layer", type=_natural, metavar="I", help="read the weights of this sparse layer")
    held.add_argument("--params", default="P64s", metavar="NAME|FILE", help="parameter set (default P64s), or .json")

    spread = _Parser(add_help=False)
    spread.add_argument("--workers", type=_natural, metavar="N", help="processes (default: one per core)")
    spread.add_argument("--cluster", metavar="ADDRESS", help="a dask.distributed scheduler, tcp://HOST:PORT")

    told = "look for secrets in the views of many runs, and say what would have been seen"
    audit = command("audit", "auditing.run_audit", told, spread)
    audit.add_argument("protocol", nargs="?", metavar="PROTOCOL", help="a protocol or broken.NAME (default: all)")
    audit.add_argument("--runs", type=_natural, metavar="N", help="runs per corrupted party (2000; with --run 520)")
    model = "real cryptography, or ideal (fast): default real; with --run hybrid, and a real session beside"
    audit.add_argument("--model", choices=["real", "hybrid"], help=model)
    audit.add_argument(
        "--against",
        choices=["experts", "simulator"],
        default="experts",
        help="two classes of secrets, or real and simulated views",
    )
    audit.add_argument("--seed", type=_natural, default=1, metavar="N", help="of the whole campaign (default 1)")
    audit.add_argument("--store", metavar="FILE", help="keep finished blocks here, and resume from them")
    audit.add_argument("--run", metavar="RUN.secmoe", help="audit the layer at the shape of this run")
    audit.add_argument("--html", metavar="FILE", help="write the leakage report as one offline page, NAME.html")
    audit.add_argument("--no-power", action="store_true", help="do not measure what planted faults would show")

    told = "predict labels and tokens from what a server sees: leaky routing, and SecMoE"
    attack = command("attack", "attacking.run_attack", told, spread)
    attack.add_argument("--model", choices=["digits", "sms"], default="digits", help="digits (default), or sms")
    attack.add_argument("--runs", type=_natural, metavar="N", help="items that are scored, hybrid runs (default 480)")
    attack.add_argument("--real", type=_natural, default=15, metavar="N", help="of them also real runs (default 15)")
    attack.add_argument("--seed", type=_natural, default=1, metavar="N", help="of the whole campaign (default 1)")
    attack.add_argument("--store", metavar="FILE", help="keep finished blocks here, and resume from them")
    attack.add_argument("--plot", metavar="FILE", help="write the result as a picture, NAME.svg")
    attack.add_argument("--html", metavar="FILE", help="write table and picture as one offline page, NAME.html")

    told = "the accuracy of a whole private model on held-out items, beside its plaintext"
    evaluate = command("evaluate", "evaluating.run_evaluation", told, spread)
    evaluate.add_argument("--model", default="sms", metavar="NAME|PATH", help="sms (default), digits, or a model file")
    evaluate.add_argument("--n", type=_natural, default=200, metavar="N", help="how many items (default 200)")
    evaluate.add_argument("--answer", choices=["class", "logits"], default="class", help="what is opened (class)")
    evaluate.add_argument("--params", default="P64s", metavar="NAME|FILE", help="parameter set (P64s), or .json")
    evaluate.add_argument("--seed", type=_natural, default=1, metavar="N", help="draws the items (default 1)")
    evaluate.add_argument("--store", metavar="FILE", help="keep finished items here, and resume from them")

    prove = command("prove", _prove, "prove protocols correct and private, for all inputs and tapes")
    prove.add_argument("protocol", nargs="?", metavar="PROTOCOL", help="a protocol or broken.NAME (default: all)")
    prove.add_argument("--run", metavar="RUN.secmoe", help="prove the layer at the shape of this run, and keep it")
    prove.add_argument("--width", type=_natural, metavar="L", help="prove correctness at this ring width")
    prove.add_argument("--certificates", metavar="DIR", help="write a certificate per case and corrupted party")
    prove.add_argument("--bounds", action="store_true", help="noise, flooding, ranges, errors of what is shipped")
    prove.add_argument("--map", action="store_true", help="print what each party receives, and what hides it")
    prove.add_argument("--graph", metavar="FILE", help="draw what a message is computed from (.svg or .dot)")
    prove.add_argument("--message", metavar="LABEL", help="with --graph: which message (default: the first)")
    prove.add_argument("--corrupted", choices=["client", "server"], help="with --graph: who receives it")

    told = "what was proved, audited and assumed of a kept run, as a leakage report"
    report = command("report", "leakage.report_run", told)
    report.add_argument("transcript", metavar="RUN.secmoe")
    report.add_argument("--html", metavar="FILE", help="write it as one offline page, NAME.html")

    new = command("new", "starting.run_new", "write a protocol of your own to start from, in a package of its own")
    new.add_argument("name", metavar="NAME", help="of the package and of its protocol")
    new.add_argument("--into", default=".", metavar="DIR", help="an existing folder (default: here)")

    own = command("check", "checking.run_check", "everything there is to say of one protocol of yours, in one table")
    own.add_argument("protocol", metavar="MODULE:PROTOCOL", help="such as my_package.my_module:my_protocol")
    own.add_argument("--runs", type=_natural, default=400, metavar="N", help="of an audit, per corrupted party (400)")
    own.add_argument("--html", metavar="FILE", help="write the table as one offline page, NAME.html")

    check = command("check-proof", "proving.check_proof", "re-check a certificate, or a folder of them, without search")
    check.add_argument("certificate", metavar="CERT|DIR")

    served = _Parser(add_help=False)
    served.add_argument("--model", default="sms", metavar="NAME|PATH", help="sms (default), digits, or a model file")
    served.add_argument("--layer", type=_natural, default=0, metavar="I", help="which layer is served (default 0)")
    served.add_argument("--order", choices=["reassociated", "literal"], default="reassociated", help="evaluation order")
    served.add_argument("--gelu", choices=["minimax", "published"], help="table of Protocol 2 (default minimax)")
    served.add_argument("--params", default="P64s", metavar="NAME|FILE", help="parameter set (default P64s), or .json")
    served.add_argument("--port", type=_natural, default=7433, metavar="P", help="on this machine (default 7433)")
    served.add_argument("--key", default="secmoe.key", metavar="FILE", help="the key of both ends (secmoe.key)")
    served.add_argument("--timeout", type=float, default=60.0, metavar="S", help="seconds to wait for the peer (60)")
    served.add_argument("--record-private", action="store_true", help="keep this side's private side, for replay")

    told = "serve a model's layer to clients on this machine, one after the other"
    serve = command("serve", "remote_commands.serve_layer", told, served)
    serve.add_argument("--once", action="store_true", help="end after one answered query")
    serve.add_argument("--limit", type=_natural, metavar="N", help="end after N answered queries")
    serve.add_argument("--records", default="runs", metavar="FOLDER", help="where this side's transcripts go (runs)")
    serve.add_argument("--no-record", action="store_true", help="keep no transcripts")

    told = "have a served layer computed on a real input, from a process of its own"
    query = command("query", "remote_commands.query_layer", told, served)
    query.add_argument("text", nargs="?", metavar="TEXT", help="a text for a text model")
    query.add_argument("--input", metavar="N|FILE", help="a held-out item of the model, or a file")
    query.add_argument("--pad", type=_natural, metavar="N", help="pad to a public length of N tokens")
    query.add_argument("--out", metavar="FILE", help="this side's transcript (default: a fresh file in ./runs)")

    join = command("join", "remote_commands.join_sides", "make one transcript of the records of both sides of a query")
    join.add_argument("client", metavar="CLIENT.secmoe")
    join.add_argument("server", metavar="SERVER.secmoe")
    join.add_argument("--out", required=True, metavar="FILE", help="the transcript, NAME.secmoe")

    key = command("key", "remote_commands.make_key", "make the key file of a server and its clients")
    key.add_argument("key_file", metavar="FILE")
    return parser
