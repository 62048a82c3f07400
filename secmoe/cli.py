"""The command `secmoe`: options, exit statuses, errors of one line.

Exit status 0: done. 1: the check that was asked for failed. 2: bad input. A user's error is a ValueError class of this
project (or a missing file, or a spent budget) and prints one line; anything else is a bug and shows its traceback.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from secmoe.exit import INTERRUPTED, SUCCESS, USAGE
from secmoe.plain import printable
from secmoe.version import program_version

OWN = ("sim", "protocols", "proofs", "transcripts", "secmoe")
USER_RUNTIME_ERRORS = ("EpsilonExhausted", "UnsupportedSqlite")

# Failures of the machine while it writes, which Python reports without a file name.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
MOST_DIGITS = 18

Command = Callable[[argparse.Namespace], int]


class _Parser(argparse.ArgumentParser):
    """Errors on one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {_one_line(message)}; see {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    keeping = False
    try:
        parser = _parser()
        options, extra = parser.parse_known_args(arguments)
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


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def _by_user(error: Exception) -> bool:
    kind = type(error)
    if isinstance(error, OSError):
        return error.filename is not None or error.errno in DISK_ERRORS
    own = kind.__module__.split(".")[0] in OWN
    return own and (isinstance(error, ValueError) or kind.__name__ in USER_RUNTIME_ERRORS)


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


def _catalog(options: argparse.Namespace) -> int:
    from secmoe.listing import catalog

    return catalog(options)


def _audit(options: argparse.Namespace) -> int:
    from secmoe.auditing import run_audit

    return run_audit(options)


def _attack(options: argparse.Namespace) -> int:
    from secmoe.attacking import run_attack

    return run_attack(options)


def _prove(options: argparse.Namespace) -> int:
    if options.run is not None:
        from secmoe.leakage import prove_run

        return prove_run(options)
    from secmoe.proving import prove

    return prove(options)


def _report(options: argparse.Namespace) -> int:
    from secmoe.leakage import report_run

    return report_run(options)


def _check_proof(options: argparse.Namespace) -> int:
    from secmoe.proving import check_proof

    return check_proof(options)


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

    def command(name: str, function: Command, told: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=told, description=told, allow_abbrev=False)
        sub.set_defaults(command=function)
        sub.add_argument("--json", action="store_true", help="print one JSON object instead")
        return sub

    run = command("run", _run, "run a private Mixture-of-Experts model, or one layer, on a real input and record it")
    run.add_argument("text", nargs="?", metavar="TEXT", help="a text for a text model")
    run.add_argument("--input", metavar="N|FILE", help="a held-out item of the model, or a file")
    run.add_argument("--model", default="sms", metavar="NAME|PATH", help="sms (default), digits, or a model file")
    run.add_argument("--layer", type=_natural, metavar="I", help="only this layer runs privately (default: the model)")
    run.add_argument("--answer", choices=["class", "logits"], help="what the client learns of the model (class)")
    run.add_argument("--protocol", choices=["secmoe"], default="secmoe", help="the private protocol")
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

    audit = command("audit", _audit, "look for secrets in the views of many runs, and say what would have been seen")
    audit.add_argument("protocol", nargs="?", metavar="PROTOCOL", help="a protocol or broken.NAME (default: all)")
    audit.add_argument("--runs", type=_natural, default=2000, metavar="N", help="runs per corrupted party (2000)")
    audit.add_argument("--model", choices=["real", "hybrid"], default="real", help="real cryptography, or ideal (fast)")
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
    attack.add_argument("--runs", type=_natural, metavar="N", help="items, hybrid runs (default 600; sms: all 878)")
    attack.add_argument("--real", type=_natural, default=20, metavar="N", help="of them also real runs (default 20)")
    attack.add_argument("--seed", type=_natural, default=1, metavar="N", help="of the whole campaign (default 1)")
    attack.add_argument("--workers", type=_natural, metavar="N", help="processes (default: one per core)")
    attack.add_argument("--cluster", metavar="ADDRESS", help="a dask.distributed scheduler, tcp://HOST:PORT")
    attack.add_argument("--store", metavar="FILE", help="keep finished blocks here, and resume from them")
    attack.add_argument("--plot", metavar="FILE", help="write the result as a picture, NAME.svg")

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

    check = command("check-proof", _check_proof, "re-check a certificate, or a folder of them, without search")
    check.add_argument("certificate", metavar="CERT|DIR")
    return parser


if __name__ == "__main__":
    sys.exit(main())
