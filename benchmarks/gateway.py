"""What the gateway costs: time added, requests per second, and a ledger of 20,000 requests.

    python benchmarks/gateway.py                # about four minutes; --quick for one

Everything is real HTTP on loopback, each in a process of its own: the gateway, this load generator,
and FakeEngine, a stand-in that answers at once or after 100 ms. Beside each figure stands the
same load straight at the stand-in. Writes results/gateway.json and the marked section of
docs/gateway.md.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from lengthwise.gateway.config import EngineConfig, GatewayConfig
from lengthwise.gateway.run import run

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs" / "gateway.md"
BEGIN, END = "<!-- benchmarks/gateway.py -->", "<!-- end -->"
SLOTS = 64
CONCURRENT = 50
RATE = 100.0
DELAY_S = 0.1
PROMPT = "Summarise the following report in two sentences. " * 8


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, one seed")
    parser.add_argument("--serve", metavar="ENGINE", help=argparse.SUPPRESS)
    parser.add_argument("--predictor", default="default")
    options = parser.parse_args()
    if options.serve:
        asyncio.run(_serve(options.serve, options.predictor))
        return
    figures = asyncio.run(_measure(options))
    print(json.dumps(figures, indent=1))
    results = ROOT / "results"
    results.mkdir(exist_ok=True)
    (results / "gateway.json").write_text(json.dumps(figures, indent=1) + "\n")
    if not options.quick:
        _write_docs(_table(figures))
    print(_table(figures))


async def _serve(engine: str, predictor: str) -> None:
    config = GatewayConfig(
        engines=(EngineConfig(url=engine, max_inflight=SLOTS),), port=0, predictor=predictor
    )
    await run(config, on_ready=lambda url: print(url, flush=True))


async def _measure(options: argparse.Namespace) -> dict[str, Any]:
    seeds = (0,) if options.quick else (0, 1, 2)
    share = 0.1 if options.quick else 1.0
    figures: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "load_before": os.getloadavg()[0],
        "predictor": options.predictor,
        "delay_s": DELAY_S,
        "rate": RATE,
        "concurrent": CONCURRENT,
    }
    stand_in = ("engine", "-m", "tests.faults.fake_engine")
    with (
        _process(*stand_in, f"--delay-s={DELAY_S}") as engine,
        _gateway(engine.url, options) as gateway,
    ):
        figures["latency"] = [
            await _latency(engine.url, gateway.url, seed, 20 * share) for seed in seeds
        ]
    with _process(*stand_in) as engine, _gateway(engine.url, options) as gateway:
        figures["throughput"] = [
            await _throughput(engine, gateway, seed, int(5000 * share)) for seed in seeds
        ]
        figures["ledger"] = await _ledger(engine.url, gateway.url, int(20000 * share))
    return figures


# --- the three measurements ---------------------------------------------------------------


async def _latency(engine: str, gateway: str, seed: int, seconds: float) -> dict[str, float]:
    """Offer Poisson arrivals to both, in alternating slices, and compare the medians."""
    rng = random.Random(seed)  # noqa: S311  # arrivals
    times: dict[str, list[float]] = {engine: [], gateway: []}
    async with _session() as session:
        for _ in range(2):
            for url in (engine, gateway):
                tasks = []
                end = time.perf_counter() + seconds / 4
                while time.perf_counter() < end:
                    tasks.append(asyncio.create_task(_timed(session, url, times[url])))
                    await asyncio.sleep(rng.expovariate(RATE))
                await asyncio.gather(*tasks)
    direct, through = (statistics.median(times[url]) for url in (engine, gateway))
    p99 = {url: statistics.quantiles(times[url], n=100)[98] for url in times}
    return {
        "requests": len(times[gateway]),
        "direct_median_ms": direct * 1000,
        "gateway_median_ms": through * 1000,
        "added_median_ms": (through - direct) * 1000,
        "added_p99_ms": (p99[gateway] - p99[engine]) * 1000,
    }


async def _throughput(
    engine: _Process, gateway: _Process, seed: int, requests: int
) -> dict[str, float]:
    """Keep 50 requests in flight, and read the gateway's own processor time."""
    rates = {}
    for process in (engine, gateway) if seed % 2 else (gateway, engine):
        before_s = gateway.cpu_s()
        async with _session() as session:
            began = time.perf_counter()
            left = iter(range(requests))
            async with asyncio.TaskGroup() as group:
                for _ in range(CONCURRENT):
                    group.create_task(_send_while(session, process.url, left))
            rates[process.name] = requests / (time.perf_counter() - began)
        if process is gateway:
            cpu_s = gateway.cpu_s() - before_s
    return {
        "requests": requests,
        "direct_per_s": rates["engine"],
        "gateway_per_s": rates["gateway"],
        "ratio": rates["gateway"] / rates["engine"],
        "gateway_cpu_ms_per_request": cpu_s / requests * 1000,
        "per_s_of_one_core": requests / cpu_s,
    }


async def _ledger(engine: str, gateway: str, requests: int) -> dict[str, int]:
    """Send UUIDs, half of them as streams, and settle the books of both ends."""
    ours: dict[str, tuple[str, str]] = {}
    failed = 0
    left = iter(range(requests))

    async def send(session: aiohttp.ClientSession) -> None:
        nonlocal failed
        for i in left:
            key = str(uuid.uuid4())
            body = _body(uuid=key, stream=bool(i % 2), text=PROMPT[: 16 + i % 300])
            async with session.post(f"{gateway}/v1/chat/completions", data=body) as answer:
                got = await answer.read()
            failed += answer.status != 200
            ours[key] = (hashlib.sha256(body).hexdigest(), hashlib.sha256(got).hexdigest())

    async with _session() as session:
        async with session.get(engine.removesuffix("/v1") + "/ledger") as answer:
            skip = len(await answer.json())
        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENT):
                group.create_task(send(session))
        async with session.get(engine.removesuffix("/v1") + "/ledger") as answer:
            rows = (await answer.json())[skip:]
    theirs = {key: (body, reply) for key, body, reply in rows}
    return {
        "requests": requests,
        "failed": failed,
        "lost": len(ours.keys() - theirs.keys()),
        "duplicated": len(rows) - len(theirs),
        "altered": sum(theirs[key] != ours[key] for key in ours.keys() & theirs.keys()),
    }


# --- parts --------------------------------------------------------------------------------


class _Process:
    """A server in a process of its own; its first line is its URL."""

    def __init__(self, name: str, popen: subprocess.Popen[str], url: str) -> None:
        self.name = name
        self.popen = popen
        self.url = url

    def cpu_s(self) -> float:
        """Processor time so far, user and system, seconds."""
        fields = Path(f"/proc/{self.popen.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _process(name: str, *arguments: str) -> Iterator[_Process]:
    paths = [str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    popen = subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    try:
        assert popen.stdout is not None
        url = popen.stdout.readline().strip()
        if not url:
            raise SystemExit(f"the {name} did not start")
        yield _Process(name, popen, url)
    finally:
        popen.terminate()
        popen.wait(10)


@contextmanager
def _gateway(engine: str, options: argparse.Namespace) -> Iterator[_Process]:
    arguments = (__file__, "--serve", engine, "--predictor", options.predictor)
    with _process("gateway", *arguments) as gateway:
        yield gateway


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), headers={"Content-Type": "application/json"}
    )


def _body(*, text: str = PROMPT, **fields: object) -> bytes:
    message = {"role": "user", "content": text}
    return json.dumps({"model": "fake", "messages": [message], **fields}).encode()


async def _timed(session: aiohttp.ClientSession, url: str, times: list[float]) -> None:
    began = time.perf_counter()
    await _send(session, url)
    times.append(time.perf_counter() - began)


async def _send(session: aiohttp.ClientSession, url: str) -> None:
    base = url if url.endswith("/v1") else f"{url}/v1"
    async with session.post(f"{base}/chat/completions", data=_body()) as answer:
        await answer.read()
        assert answer.status == 200, answer.status


async def _send_while(session: aiohttp.ClientSession, url: str, left: Iterator[int]) -> None:
    for _ in left:
        await _send(session, url)


# --- report -------------------------------------------------------------------------------


def _table(figures: dict[str, Any]) -> str:
    def median(part: str, key: str) -> float:
        return float(statistics.median(row[key] for row in figures[part]))

    ledger = figures["ledger"]
    wrong = ledger["lost"] + ledger["duplicated"] + ledger["altered"] + ledger["failed"]
    rows = [
        ("what", "through the gateway", "straight at the stand-in", "difference"),
        ("---", "---", "---", "---"),
        (
            (
                f"median latency, {figures['rate']:.0f} requests/s, answer after "
                f"{figures['delay_s'] * 1000:.0f} ms"
            ),
            f"{median('latency', 'gateway_median_ms'):.2f} ms",
            f"{median('latency', 'direct_median_ms'):.2f} ms",
            f"+{median('latency', 'added_median_ms'):.2f} ms",
        ),
        (
            f"requests/s, {figures['concurrent']} concurrent, answer at once",
            f"{median('throughput', 'gateway_per_s'):.0f}",
            f"{median('throughput', 'direct_per_s'):.0f}",
            f"x {median('throughput', 'ratio'):.2f}",
        ),
        (
            "requests per second of the gateway's processor time",
            f"{median('throughput', 'per_s_of_one_core'):.0f}",
            "",
            f"{median('throughput', 'gateway_cpu_ms_per_request'):.2f} ms each",
        ),
        (
            f"lost, duplicated or altered of {ledger['requests']} (half of them streams)",
            str(wrong),
            "",
            "",
        ),
    ]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    seeds = len(figures["latency"])
    runs = "one run" if seeds == 1 else f"medians of {seeds} runs"
    where = "load generator, gateway and stand-in share the machine"
    others = f"load average of everything else before it: {figures['load_before']:.1f}"
    lines.append(f"\n{figures['date'][:10]}, {figures['machine']}, {runs}; {where}; {others}.")
    return "\n".join(lines)


def _write_docs(table: str) -> None:
    text = DOCS.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    DOCS.write_text(f"{head}{BEGIN}\n{table}\n{END}{tail}")


if __name__ == "__main__":
    main()
