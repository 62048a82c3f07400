"""Record the link trace of SPU's top_k: two parties, two processes, loopback; one trace file per rank.

Runs in an environment of its own, which the testbed never imports (Python 3.11; the wheel is 75 MB):

    python3.11 -m venv spu-env && spu-env/bin/pip install spu==0.9.5
    spu-env/bin/python tools/spu_trace.py --values 5,5,5,5,5,5,5,5 --repeat 2 --out tests/data/spu/equal
    spu-env/bin/python tools/spu_trace.py --values 3,1,4,8,5,7,2,6 --repeat 2 --out tests/data/spu/distinct

writes equal.1.rank0.log, equal.1.rank1.log and so on; each run has processes of its own. SPU's shuffle and masks are
fresh in every run; the parties are given additive shares of the values.
"""

from __future__ import annotations

import argparse
import multiprocessing
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import spu.api as api
import spu.libspu as libspu
import spu.utils.frontend as frontend

PARTIES = 2
RECEIVE_MS = 60_000


def free_ports() -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(PARTIES)]
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


def runtime_config(protocol: str) -> Any:
    return libspu.RuntimeConfig(protocol=getattr(libspu.ProtocolKind, protocol), field=libspu.FieldType.FM64)


def party(rank: int, ports: list[int], protocol: str, trace: str, length: int, code: bytes, share: Any) -> None:
    """One party's process: its own log, its own end of the link."""
    options = libspu.logging.LogOptions()
    options.enable_console_logger = False
    options.trace_log_path, options.trace_content_length = trace, length
    with tempfile.TemporaryDirectory() as folder:
        options.system_log_path = f"{folder}/system.log"
        libspu.logging.setup_logging(options)
        desc = libspu.link.Desc()
        desc.recv_timeout_ms = RECEIVE_MS
        for other, port in enumerate(ports):
            desc.add_party(f"rank{other}", f"127.0.0.1:{port}")
        link = libspu.link.create_brpc(desc, rank)
        runtime = api.Runtime(link, runtime_config(protocol))
        executable = libspu.Executable()
        executable.ParseFromString(code)
        runtime.set_var("in0", share)
        runtime.run(executable)
        link.stop_link()


def record(values: list[int], k: int, protocol: str, length: int, out: str) -> list[Path]:
    """One run; returns its two trace files."""
    x = np.array(values, np.int32)
    secret = libspu.Visibility.VIS_SECRET
    executable, _ = frontend.compile(
        frontend.Kind.JAX, lambda v: jax.lax.top_k(v, k)[0], [x], {}, ["in0"], [secret], lambda _: ["out0"]
    )
    shares = api.Io(PARTIES, runtime_config(protocol)).make_shares(x, secret)
    ports, code = free_ports(), executable.SerializeToString()
    paths = [Path(f"{out}.rank{rank}.log") for rank in range(PARTIES)]
    for path in paths:
        path.unlink(missing_ok=True)
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=party, args=(rank, ports, protocol, str(paths[rank]), length, code, shares[rank]))
        for rank in range(PARTIES)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        sys.exit(f"{out}: a party ended with status {[process.exitcode for process in processes]}")
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--values", required=True, help="the secret vector, whole numbers with commas between them")
    parser.add_argument("--k", type=int, default=2, help="how many of the largest (default 2)")
    parser.add_argument("--protocol", choices=["SEMI2K", "CHEETAH"], default="SEMI2K")
    parser.add_argument("--content-length", type=int, default=1 << 24, help="trace_content_length, in bytes")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="record N runs: PREFIX.1, ...")
    parser.add_argument("--out", required=True, metavar="PREFIX")
    options = parser.parse_args()
    values = [int(value) for value in options.values.split(",")]
    for n in range(options.repeat):
        paths = record(values, options.k, options.protocol, options.content_length, f"{options.out}.{n + 1}")
        print(*(f"{path}: {path.stat().st_size} bytes" for path in paths), sep="\n")


if __name__ == "__main__":
    main()
