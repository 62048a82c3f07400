"""The command `secmoe`: options, exit statuses, errors of one line.

Exit status 0: done. 1: the check that was asked for failed. 2: bad input. A user's error is a ValueError class of this
project (or a missing file, or a spent budget) and prints one line; anything else is a bug and shows its traceback.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Callable, Sequence
from reprlib import repr as shortened
from typing import NoReturn

from secmoe.exit import INTERRUPTED, SUCCESS, USAGE
from secmoe.names import LAYER_PROTOCOLS, SECMOE
from secmoe.plain import printable
from secmoe.version import program_version

OWN = ("sim", "protocols", "proofs", "transcripts", "secmoe")
USER_RUNTIME_ERRORS = {"EpsilonExhausted", "UnsupportedSqlite", "RemoteError"}

# Failures of the machine while it writes, which Python reports without a file name.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
MOST_DIGITS = 18
LONGEST = 1000  # characters of an error

Command = Callable[[argparse.Namespace], int]


class BadArgument(ValueError):
    """A word that no operating system passes to a program."""


class _Parser(argparse.ArgumentParser):
    """Errors on one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {_one_line(message)}; see {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    keeping = False
    words = sys.argv[1:] if arguments is None else list(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text in any encoding
    try:
        _require_passable(words)
        parser = _parser()
        options, extra = parser.parse_known_args(words)
        if extra:
            several = options.command is _run and not any(word.startswith("-") for word in extra)
            hint = '; put a text of several words in quotes: secmoe run "see you at five"' if several else ""
            parser.error(f"unrecognized arguments: {' '.join(extra)}{hint}")
        command: Command = options.command
        keeping = command is _run
        status = command(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print(f"secmoe: interrupted{'; no transcript was kept' if keeping else ''}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left: so may the rest of the output
        return SUCCESS
    except (ValueError, RuntimeError, OSError) as error:
        if not _by_user(error):
            raise
        print(f"secmoe: {_one_line(str(error))}", file=sys.stderr)
        return USAGE


def _require_passable(words: Sequence[str]) -> None:
    """Raise BadArgument for what no file name, and nothing else a command takes, can be."""
    for place, word in enumerate(words, 1):
        try:
            passable = b"\0" not in os.fsencode(word)
        except UnicodeEncodeError:
            passable = False
        if not passable:
            raise BadArgument(f"argument {place}: expected text without NUL, got {shortened(word)}; correct it")


def _one_line(text: str) -> str:
    """What may quote an argument or a stranger's file of any length."""
    told = printable(" ".join(text.split()))
    return told if len(told) <= LONGEST else f"{told[:LONGEST]}..."


def _by_user(error: Exception) -> bool:
    kind = type(error)
    if isinstance(error, OSError):
        return error.filename is not None or error.errno in DISK_ERRORS
    own = kind.__module__.split(".")[0] in OWN
    return own and (isinstance(error, ValueError) or any(base.__name__ in USER_RUNTIME_ERRORS for base in kind.__mro__))


def _run(options: argparse.Namespace) -> int:
    from secmoe.running import run  # loads models and kernels

    return run(options)


def _inspect(options: argparse.Namespace) -> int:
    from secmoe.kept import inspect

    return inspect(options)


def _diff(options: argparse.Namespace) -> int:
    from secmoe.kept import diff_runs

    return diff_runs(options)


def _replay(options: argparse.Namespace) -> int:
    from secmoe.kept import replay_run

    return replay_run(options)


def _import(options: argparse.Namespace) -> int:
    from secmoe.importing import import_trace

    return import_trace(options)


def _model(options: argparse.Namespace) -> int:
    from secmoe.checkpointed import show_checkpoint

    return show_checkpoint(options)


def _catalog(options: argparse.Namespace) -> int:
    from secmoe.listing import catalog

    return catalog(options)


def _cost(options: argparse.Namespace) -> int:
    from secmoe.pricing import run_cost

    return run_cost(options)


def _bench(options: argparse.Namespace) -> int:
    from secmoe.benching import run_bench

    return run_bench(options)


def _reproduce(options: argparse.Namespace) -> int:
    from secmoe.reproducing import run_reproduce

    return run_reproduce(options)


def _audit(options: argparse.Namespace) -> int:
    from secmoe.auditing import run_audit

    return run_audit(options)


def _attack(options: argparse.Namespace) -> int:
    from secmoe.attacking import run_attack

    return run_attack(options)


def _evaluate(options: argparse.Namespace) -> int:
    from secmoe.evaluating import run_evaluation

    return run_evaluation(options)


def _prove(options: argparse.Namespace) -> int:
    if options.run is not None:
        from secmoe.leakage import prove_run

        return prove_run(options)
    from secmoe.proving import prove

    return prove(options)


def _report(options: argparse.Namespace) -> int:
    from secmoe.leakage import report_run

    return report_run(options)


def _new(options: argparse.Namespace) -> int:
    from secmoe.starting import run_new

    return run_new(options)


def _check(options: argparse.Namespace) -> int:
    from secmoe.checking import run_check

    return run_check(options)


def _check_proof(options: argparse.Namespace) -> int:
    from secmoe.proving import check_proof

    return check_proof(options)


def _serve(options: argparse.Namespace) -> int:
    from secmoe.remote_commands import serve_layer

    return serve_layer(options)


def _query(options: argparse.Namespace) -> int:
    from secmoe.remote_commands import query_layer

    return query_layer(options)


def _join(options: argparse.Namespace) -> int:
    from secmoe.remote_commands import join_sides

    return join_sides(options)


def _key(options: argparse.Namespace) -> int:
    from secmoe.remote_commands import make_key

    return make_key(options)


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0, got {text!r}")
    if len(text) > MOST_DIGITS:
        raise argparse.ArgumentTypeError(f"expected at most {MOST_DIGITS} digits, got {len(text)}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    about = "Private Mixture-of-Experts inference: run it on real cryptography, record it, replay it."
    parser = _Parser("secmoe", description=about, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"secmoe {program_version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, function: Command, told: str, *shared: _Parser) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=told, description=told, parents=list(shared), allow_abbrev=False)
        sub.set_defaults(command=function)
        sub.add_argument("--json", action="store_true", help="print one JSON object instead")
        return sub

    run = command("run", _run, "run a private Mixture-of-Experts model, or one layer, on a real input and record it")
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

    inspect = command("inspect", _inspect, "show a kept run: summary, cost by scope, messages")
    inspect.add_argument("transcript", metavar="RUN.secmoe")
    inspect.add_argument("--scope", default="", metavar="S", help="only this scope and below; lists its messages")
    inspect.add_argument("--view", choices=["client", "server"], help="only what this party receives, in every form")
    form = inspect.add_mutually_exclusive_group()
    form.add_argument("--list", action="store_true", help="list the messages")
    form.add_argument("--message", type=_natural, metavar="N", help="show message N with its bytes")
    form.add_argument("--sql", metavar="QUERY", help="answer one SELECT over the tables run, message, payload")
    form.add_argument("--html", metavar="FILE", help="write all of it as one offline page, NAME.html")

    diff = command("diff", _diff, "compare two kept runs: labels, order, sizes, rounds; content is only counted")
    diff.add_argument("left", metavar="A.secmoe")
    diff.add_argument("right", metavar="B.secmoe")

    replay = command("replay", _replay, "re-execute each party alone and confirm every byte of a kept run")
    replay.add_argument("transcript", metavar="RUN.secmoe")

    foreign = command("import", _import, "keep the link trace of a run of SPU, to inspect and compare it")
    foreign.add_argument("traces", nargs="+", metavar="FILE", help="the trace of rank 0, then that of rank 1")
    foreign.add_argument("--out", metavar="FILE", help="the transcript, NAME.secmoe (default: a fresh file in ./runs)")
    foreign.add_argument("--client-rank", type=int, choices=[0, 1], default=0, help="which rank is the client")
    length = "the run's trace_content_length (default 100, as in SPU)"
    foreign.add_argument("--content-length", type=_natural, default=100, metavar="N", help=length)
    root = "RANK is the root of the GATHER or BCAST of this key or tag; repeatable"
    foreign.add_argument("--root", action="append", default=[], metavar="KEY=RANK", help=root)

    command("catalog", _catalog, "list every protocol")

    cost = command("cost", _cost, "what a private query costs at full model size, by operator and layer")
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

    bench = command("bench", _bench, "predicted times beside real runs; or what predictions are made of")
    bench.add_argument("--calibrate", action="store_true", help="measure the kernels of this machine, and keep them")
    told = "rates of kernels: for --calibrate to write (calibration.json), else to predict from, not measured in turns"
    bench.add_argument("--calibration", metavar="FILE", help=told)
    tables = ["layers", "blocks", "experts", "extension"]
    bench.add_argument("--table", choices=tables, help="instead: the rows of this table of the README, run for real")

    again = command("reproduce", _reproduce, "write the page of published tables beside what this program gives")
    place = "an existing folder (default docs); its figures/*.json give what was measured"
    again.add_argument("folder", nargs="?", default="docs", metavar="DIR", help=place)
    again.add_argument("--readme", metavar="FILE", help="a text whose marked tables are made anew as well")

    held = command("model", _model, "what a Hugging Face checkpoint holds, and what rounding does to its weights")
    held.add_argument("folder", metavar="DIR", help="with config.json and safetensors")
    held.add_argument("--layer", type=_natural, metavar="I", help="read the weights of this sparse layer")
    held.add_argument("--params", default="P64s", metavar="NAME|FILE", help="parameter set (default P64s), or .json")

    audit = command("audit", _audit, "look for secrets in the views of many runs, and say what would have been seen")
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
    audit.add_argument("--workers", type=_natural, metavar="N", help="processes (default: one per core)")
    audit.add_argument("--cluster", metavar="ADDRESS", help="a dask.distributed scheduler, tcp://HOST:PORT")
    audit.add_argument("--store", metavar="FILE", help="keep finished blocks here, and resume from them")
    audit.add_argument("--run", metavar="RUN.secmoe", help="audit the layer at the shape of this run")
    audit.add_argument("--html", metavar="FILE", help="write the leakage report as one offline page, NAME.html")
    audit.add_argument("--no-power", action="store_true", help="do not measure what planted faults would show")

    attack = command("attack", _attack, "predict labels and tokens from what a server sees: leaky routing, and SecMoE")
    attack.add_argument("--model", choices=["digits", "sms"], default="digits", help="digits (default), or sms")
    attack.add_argument("--runs", type=_natural, metavar="N", help="items that are scored, hybrid runs (default 480)")
    attack.add_argument("--real", type=_natural, default=15, metavar="N", help="of them also real runs (default 15)")
    attack.add_argument("--seed", type=_natural, default=1, metavar="N", help="of the whole campaign (default 1)")
    attack.add_argument("--workers", type=_natural, metavar="N", help="processes (default: one per core)")
    attack.add_argument("--cluster", metavar="ADDRESS", help="a dask.distributed scheduler, tcp://HOST:PORT")
    attack.add_argument("--store", metavar="FILE", help="keep finished blocks here, and resume from them")
    attack.add_argument("--plot", metavar="FILE", help="write the result as a picture, NAME.svg")
    attack.add_argument("--html", metavar="FILE", help="write table and picture as one offline page, NAME.html")

    told = "the accuracy of a whole private model on held-out items, beside its plaintext"
    evaluate = command("evaluate", _evaluate, told)
    evaluate.add_argument("--model", default="sms", metavar="NAME|PATH", help="sms (default), digits, or a model file")
    evaluate.add_argument("--n", type=_natural, default=200, metavar="N", help="how many items (default 200)")
    evaluate.add_argument("--answer", choices=["class", "logits"], default="class", help="what is opened (class)")
    evaluate.add_argument("--params", default="P64s", metavar="NAME|FILE", help="parameter set (P64s), or .json")
    evaluate.add_argument("--seed", type=_natural, default=1, metavar="N", help="draws the items (default 1)")
    evaluate.add_argument("--workers", type=_natural, metavar="N", help="processes (default: one per core)")
    evaluate.add_argument("--cluster", metavar="ADDRESS", help="a dask.distributed scheduler, tcp://HOST:PORT")
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

    report = command("report", _report, "what was proved, audited and assumed of a kept run, as a leakage report")
    report.add_argument("transcript", metavar="RUN.secmoe")
    report.add_argument("--html", metavar="FILE", help="write it as one offline page, NAME.html")

    new = command("new", _new, "write a protocol of your own to start from, in a package of its own")
    new.add_argument("name", metavar="NAME", help="of the package and of its protocol")
    new.add_argument("--into", default=".", metavar="DIR", help="an existing folder (default: here)")

    own = command("check", _check, "everything there is to say of one protocol of yours, in one table")
    own.add_argument("protocol", metavar="MODULE:PROTOCOL", help="such as my_package.my_module:my_protocol")
    own.add_argument("--runs", type=_natural, default=400, metavar="N", help="of an audit, per corrupted party (400)")
    own.add_argument("--html", metavar="FILE", help="write the table as one offline page, NAME.html")

    check = command("check-proof", _check_proof, "re-check a certificate, or a folder of them, without search")
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

    serve = command("serve", _serve, "serve a model's layer to clients on this machine, one after the other", served)
    serve.add_argument("--once", action="store_true", help="end after one answered query")
    serve.add_argument("--limit", type=_natural, metavar="N", help="end after N answered queries")
    serve.add_argument("--records", default="runs", metavar="FOLDER", help="where this side's transcripts go (runs)")
    serve.add_argument("--no-record", action="store_true", help="keep no transcripts")

    query = command("query", _query, "have a served layer computed on a real input, from a process of its own", served)
    query.add_argument("text", nargs="?", metavar="TEXT", help="a text for a text model")
    query.add_argument("--input", metavar="N|FILE", help="a held-out item of the model, or a file")
    query.add_argument("--pad", type=_natural, metavar="N", help="pad to a public length of N tokens")
    query.add_argument("--out", metavar="FILE", help="this side's transcript (default: a fresh file in ./runs)")

    join = command("join", _join, "make one transcript of the records of both sides of a query")
    join.add_argument("client", metavar="CLIENT.secmoe")
    join.add_argument("server", metavar="SERVER.secmoe")
    join.add_argument("--out", required=True, metavar="FILE", help="the transcript, NAME.secmoe")

    key = command("key", _key, "make the key file of a server and its clients")
    key.add_argument("key_file", metavar="FILE")
    return parser


if __name__ == "__main__":
    sys.exit(main())
