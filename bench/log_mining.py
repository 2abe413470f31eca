"""Template mining: lines per second and grouping accuracy, against drain3 in the same run on the same lines.

Ours is the whole way as `investigate` goes it: file, lines, times, levels, templates, buckets, stack traces. The rival
gets its lines ready in memory: whole, with the time cut off beforehand (which is not counted), and whole without any
mask, as its configuration comes. Both run in a process of their own, on one processor, and are measured in seconds of that processor, so that a busy machine does
not change their ratio much.

drain3 is found in the interpreter that ``ADVISOR_BENCH_DRAIN3_PYTHON`` names, else in this one; where neither has it,
that is said, and only our figures are printed. Grouping accuracy needs labelled sets in the layout of LogHub's 2k sets
(``SET/SET_2k.log_structured.csv`` with Content and EventId), by ``--samples`` or ``ADVISOR_BENCH_LOG_SAMPLES``.

    python -m bench.log_mining --lines 1000000 --samples loghub --bounded-lines 10000000
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

BEGIN = datetime(2026, 11, 22, tzinfo=UTC)
# The masks of drain3's README, and its defaults otherwise.
RIVAL_MASKS = (
    (r"((?<=[^A-Za-z0-9])|^)(\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3})((?=[^A-Za-z0-9])|$)", "IP"),
    (r"((?<=[^A-Za-z0-9])|^)([\-\+]?\d+)((?=[^A-Za-z0-9])|$)", "NUM"),
)
NAMES = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "mallory", "peggy")
PATHS = ("/api/orders/{n}", "/api/carts/{n}/items", "/login", "/static/app.{h}.js", "/search?q={w}+{w}", "/health")
AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/{s}.0",
    "curl/8.{s}.0",
    "kube-probe/1.{s}",
    "okhttp/4.{s}",
)
SPRING = (
    " INFO 1 --- [http-nio-8080-exec-{s}] o.e.shop.Cart     : Cart {n} of session {h} priced in {m} ms",
    " INFO 1 --- [http-nio-8080-exec-{s}] o.e.shop.Checkout : Order {n} placed by {w}@example.org, {m}.20",
    "DEBUG 1 --- [scheduling-1] o.e.shop.SessionStore     : {n} sessions held, {m} expired",
    ' WARN 1 --- [http-nio-8080-exec-{s}] o.e.shop.Payments : slow answer from "payments-{s}": {m} ms',
    " INFO 1 --- [http-nio-8080-exec-{s}] o.e.shop.Audit    : user={w} action=login trace={u}",
    " INFO 1 --- [kafka-{s}] o.e.shop.Events : Partition orders-{s} offset {n} lag {m}",
)
TRACE = (
    "ERROR 1 --- [http-nio-8080-exec-7] o.e.shop.Checkout : order {n} failed\n"
    "java.lang.IllegalStateException: no session {n}\n"
    + "".join(f"\tat org.example.shop.Checkout.step{n}(Checkout.java:{n})\n" for n in range(12))
    + "Caused by: java.net.SocketTimeoutException: Read timed out\n"
    "\tat java.base/sun.nio.ch.NioSocketImpl.timedRead(NioSocketImpl.java:{s})\n"
    "\t... 12 more"
)
STATEMENTS = (
    '"level":"info","logger":"orders","msg":"order {n} accepted","trace_id":"{h}","duration_ms":{m}',
    '"level":"warn","logger":"pool","msg":"pool has {s} of {m} connections left","trace_id":"{h}"',
    '"level":"error","logger":"http","msg":"GET /api/orders/{n} answered 503 in {m} ms","trace_id":"{h}"',
    '"level":"info","logger":"auth","msg":"user {w} logged in from 10.0.{s}.{s}","trace_id":"{h}"',
)
PLAIN = (
    'caller=pool.go:{s} level=info msg="connection {n} opened" peer=10.0.{s}.{s}:{n} took={m}ms',
    'caller=retry.go:{s} level=warn msg="attempt {s} of {m} failed" err="dial tcp 10.0.{s}.7:5432: i/o timeout"',
    'caller=cache.go:{s} level=debug msg="evicted" key={h} size={n}',
)
CLUSTER = (
    "I{d} 7 kubelet.go:{s}] Container {h} started in pod shop/checkout-{s}",
    "W{d} 7 prober.go:{s}] Readiness probe for shop/checkout-{s} failed after {m} ms",
    "E{d} 7 reflector.go:{s}] Failed to watch configmaps: timeout after {m}",
)


def spring(at: datetime, fill: Callable[[str], str], chance: random.Random) -> str:
    """Return a line of a Spring Boot service, or a stack trace."""
    text = TRACE if chance.random() < 0.002 else chance.choice(SPRING)
    return f"{at.isoformat(timespec='milliseconds')[:-6]}Z {fill(text)}"


def nginx(at: datetime, fill: Callable[[str], str], chance: random.Random) -> str:
    """Return a line of an access log."""
    status = chance.choice((200, 200, 200, 304, 404, 502))
    request = fill(f'"GET {chance.choice(PATHS)} HTTP/1.1" {status} {{n}} "-" "{chance.choice(AGENTS)}" 0.{{m}}')
    return fill("10.{s}.{s}.{s} - - ") + at.strftime("[%d/%b/%Y:%H:%M:%S +0000] ") + request


def json_lines(at: datetime, fill: Callable[[str], str], chance: random.Random) -> str:
    """Return a line of a structured log."""
    stamp = at.isoformat(timespec="milliseconds")[:-6]
    return f'{{"ts":"{stamp}Z",{fill(chance.choice(STATEMENTS))}}}'


def logfmt(at: datetime, fill: Callable[[str], str], chance: random.Random) -> str:
    """Return a line in logfmt."""
    return f"ts={at.isoformat(timespec='milliseconds')[:-6]}Z {fill(chance.choice(PLAIN))}"


def klog(at: datetime, fill: Callable[[str], str], chance: random.Random) -> str:
    """Return a line of a Kubernetes component."""
    return fill(chance.choice(CLUSTER)).replace("{d}", at.strftime("%m%d %H:%M:%S.%f"))


FORMATS = {"spring": spring, "nginx": nginx, "json": json_lines, "logfmt": logfmt, "klog": klog}


def make_log(path: Path, lines: int, layout: str) -> None:
    """Write a repeatable log of so many lines."""
    chance = random.Random(7)  # repeatable, nothing secret
    make = FORMATS[layout]

    def fill(text: str) -> str:
        parts = text.split("{")
        made = [parts[0]]
        for part in parts[1:]:
            value = _value(part[:1], chance) if part[1:2] == "}" else None
            made.append("{" + part if value is None else value + part[2:])
        return "".join(made)

    at, written = BEGIN, 0
    with path.open("w", encoding="utf-8") as file:
        while written < lines:
            at += timedelta(milliseconds=chance.randrange(25))
            text = make(at, fill, chance)
            written += text.count("\n") + 1
            file.write(text + "\n")


def _value(kind: str, chance: random.Random) -> str | None:
    if kind == "n":
        return str(chance.randrange(10**6))
    if kind == "m":
        return str(chance.randrange(900))
    if kind == "s":
        return str(chance.randrange(20))
    if kind == "h":
        return f"{chance.getrandbits(128):032x}"
    if kind == "u":
        h = f"{chance.getrandbits(128):032x}"
        return "-".join((h[:8], h[8:12], h[12:16], h[16:20], h[20:]))
    return chance.choice(NAMES) + chance.choice(("", ".smith", "_x")) if kind == "w" else None


# --- what is measured, each in a process of its own


def measure_ours(path: Path) -> dict[str, float]:
    """Read a whole file as `investigate` reads a window."""
    from advisor.adapters.log_files import LogFiles
    from advisor.evidence import LogRequest

    window = LogRequest(
        service="bench",
        files=(path.name,),
        start=datetime(2000, 1, 2, tzinfo=UTC),
        end=datetime(2090, 1, 1, tzinfo=UTC),
    )
    files = LogFiles(path.parent, lines_max=10**12, seconds_max=1e9)
    begun = time.process_time()
    answer = files.read(window)
    return {
        "seconds": time.process_time() - begun,
        "lines": answer.lines,
        "templates": len(answer.templates),
        "counted": sum(one.count for one in answer.templates),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measure_rival(path: Path, cut: bool, masked: bool = True) -> dict[str, float]:
    """Give every line of a file to drain3."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    if cut:
        lines = [_message_of(line) for line in lines]
    miner = _rival(masked)
    begun = time.process_time()
    for line in lines:
        miner.add_log_message(line)
    return {
        "seconds": time.process_time() - begun,
        "lines": len(lines),
        "templates": len(miner.drain.clusters),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _message_of(line: str) -> str:
    for mark in ("Z ", "+0000] ", 'Z",'):
        head, found, rest = line.partition(mark)
        if found and len(head) < 60:
            return rest
    return line[21:] if line[:1] in "IWEF" else line


def _rival(masked: bool = True):  # type: ignore[no-untyped-def]
    from drain3 import TemplateMiner  # type: ignore[import-not-found]
    from drain3.masking import MaskingInstruction  # type: ignore[import-not-found]
    from drain3.template_miner_config import TemplateMinerConfig  # type: ignore[import-not-found]

    config = TemplateMinerConfig()
    config.profiling_enabled = False
    config.masking_instructions = [MaskingInstruction(pattern, name) for pattern, name in RIVAL_MASKS if masked]
    return TemplateMiner(config=config)


def group_ours(texts: Sequence[str]) -> list[int]:
    """Return a group for each text."""
    from advisor.evidence.log_templates import TemplateMiner

    miner = TemplateMiner(0.0)
    for text in texts:
        miner.add(0.0, text)
    return [miner.place(text) for text in texts]


def group_rival(texts: Sequence[str]) -> list[int]:
    """Return drain3's group for each text."""
    miner = _rival()
    return [miner.add_log_message(text)["cluster_id"] for text in texts]


def grouping_accuracy(labels: Sequence[str], groups: Sequence[int]) -> float:
    """Return the share of lines whose group holds all lines of their label and no other.

    Source: Zhu et al., "Tools and Benchmarks for Automated Log Parsing", ICSE 2019.
    """
    sizes = Counter(labels)
    together: dict[int, Counter[str]] = defaultdict(Counter)
    for label, group in zip(labels, groups, strict=True):
        together[group][label] += 1
    right = sum(
        count for one in together.values() if len(one) == 1 for label, count in one.items() if sizes[label] == count
    )
    return right / len(labels) if labels else 0.0


def labelled(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield name, texts and labels of each set in a folder."""
    for path in sorted(folder.rglob("*_2k.log_structured.csv")):
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            rows = list(csv.DictReader(file))
        yield path.parent.name, [row["Content"] for row in rows], [row["EventId"] for row in rows]


def accuracies(folder: Path, rival: bool) -> dict[str, float]:
    """Return grouping accuracy by set."""
    group = group_rival if rival else group_ours
    return {name: grouping_accuracy(labels, group(texts)) for name, texts, labels in labelled(folder)}


# --- the run


def rival_python() -> str | None:
    """Return an interpreter that has drain3, or None."""
    for python in (os.environ.get("ADVISOR_BENCH_DRAIN3_PYTHON"), sys.executable):
        if python and subprocess.run([python, "-c", "import drain3"], capture_output=True, check=False).returncode == 0:
            return python
    return None


def in_a_process(python: str, *arguments: str) -> dict[str, float]:
    """Run one measurement in a fresh interpreter on one processor."""
    ran = subprocess.run(
        [python, str(Path(__file__).resolve()), "--measure", *arguments], capture_output=True, text=True, check=False
    )
    if ran.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {ran.stderr.strip()[-500:]}")
    answer: dict[str, float] = json.loads(ran.stdout)
    return answer


def run_measure(arguments: Sequence[str]) -> None:
    """Do one measurement and print it as JSON."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    what, path = arguments[0], Path(arguments[1])
    measured = {
        "ours": lambda: measure_ours(path),
        "drain3": lambda: measure_rival(path, cut=False),
        "drain3-cut": lambda: measure_rival(path, cut=True),
        "drain3-bare": lambda: measure_rival(path, cut=False, masked=False),
        "accuracy-ours": lambda: accuracies(path, rival=False),
        "accuracy-drain3": lambda: accuracies(path, rival=True),
    }[what]()
    print(json.dumps(measured))


def compare(path: Path, name: str, rival: str | None, bare: bool) -> None:
    """Print one row: ours and drain3 on the lines of one file."""
    ours = in_a_process(sys.executable, "ours", str(path))
    rate = ours["lines"] / ours["seconds"]
    row = f"{name:10} {ours['lines']:>10.0f} {rate:>12,.0f} {ours['templates']:>6.0f}"
    if rival:
        for way in ("drain3", "drain3-cut", *(("drain3-bare",) if bare else ())):
            theirs = in_a_process(rival, way, str(path))
            other = theirs["lines"] / theirs["seconds"]
            row += f" {other:>10,.0f} {theirs['templates']:>6.0f} {rate / other:>7.1f}x"
    print(row, flush=True)


def report_accuracy(folder: Path, rival: str | None) -> None:
    """Print grouping accuracy of each labelled set."""
    ours = in_a_process(sys.executable, "accuracy-ours", str(folder))
    theirs = in_a_process(rival, "accuracy-drain3", str(folder)) if rival else {}
    if not ours:
        print(f"no labelled set under {folder}")
        return
    print(f"\n{'set':14} {'ours':>6} {'drain3':>7}")
    for name, value in [*ours.items(), ("mean", sum(ours.values()) / len(ours))]:
        other = sum(theirs.values()) / len(theirs) if name == "mean" and theirs else theirs.get(name)
        print(f"{name:14} {value:6.3f} {'' if other is None else f'{other:7.3f}'}")


def main() -> None:
    """Measure throughput, then accuracy, then memory, as far as asked for."""
    parser = argparse.ArgumentParser(description="Template mining against drain3.")
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--formats", nargs="*", choices=sorted(FORMATS), default=sorted(FORMATS))
    parser.add_argument("--file", type=Path, help="measure on this log instead")
    parser.add_argument("--samples", type=Path, default=os.environ.get("ADVISOR_BENCH_LOG_SAMPLES"))
    # Where every line has an identifier of its own, each becomes a template: a million lines take it an hour.
    parser.add_argument("--bare", action="store_true", help="compare with drain3 without masks too")
    parser.add_argument("--bounded-lines", type=int, default=0, help="also read so many lines, for the peak of memory")
    given = parser.parse_args()
    rival = rival_python()
    if rival is None:
        print("drain3 is absent: set ADVISOR_BENCH_DRAIN3_PYTHON to an interpreter that has it; ours alone follows")
    print(
        f"{'lines of':10} {'lines':>10} {'ours/s':>12} {'found':>6} {'drain3/s':>10} {'found':>6} {'ratio':>8}", end=""
    )
    print(f" {'time cut/s':>10} {'found':>6} {'ratio':>8}", end="")
    print(f" {'no mask/s':>10} {'found':>6} {'ratio':>8}" if given.bare else "")
    with tempfile.TemporaryDirectory() as folder:
        if given.file:
            compare(given.file, given.file.stem[:10], rival, given.bare)
        for name in () if given.file else given.formats:
            path = Path(folder) / f"{name}.log"
            make_log(path, given.lines, name)
            compare(path, name, rival, given.bare)
            path.unlink()
        if given.samples:
            report_accuracy(Path(given.samples), rival)
        if given.bounded_lines:
            path = Path(folder) / "large.log"
            make_log(path, given.bounded_lines, "spring")
            large = in_a_process(sys.executable, "ours", str(path))
            print(
                f"\n{large['lines']:,.0f} lines: {large['seconds']:.1f} s, peak of memory {large['peak_mib']:.0f} MiB"
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        run_measure(sys.argv[2:])
    else:
        main()
