"""Load on 127.0.0.1, bounded in time: wrk where it is installed, else a client of our own."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CONNECTIONS = 8

_SCRIPT = """
local bodies = {}
for line in io.lines("%s") do bodies[#bodies + 1] = line end
local at = 0
request = function()
  at = at %% #bodies + 1
  return wrk.format("POST", nil, {["Content-Type"] = "application/json"}, bodies[at])
end
done = function(summary, latency)
  local wrong = summary.errors.status + summary.errors.read + summary.errors.timeout + summary.errors.connect
  io.write(string.format('{"requests": %%d, "microseconds": %%d, "p50": %%f, "p99": %%f, "wrong": %%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), wrong))
end
"""


@dataclass(frozen=True)
class Load:
    """What a server answered.

    Attributes
    ----------
    rate : float
        Requests a second.
    p50, p99 : float
        Milliseconds.
    wrong : int
        Requests without an answer of status 200.
    """

    rate: float
    p50: float
    p99: float
    wrong: int


def closed_loop(port: int, path: str, bodies: Sequence[str], seconds: int) -> Load:
    """Ask over 8 connections, each as soon as it has its answer."""
    if shutil.which("wrk") is None:
        return asyncio.run(_own_loop(port, path, bodies, seconds, rate=None))
    with tempfile.TemporaryDirectory() as folder:
        lines, script = Path(folder, "bodies"), Path(folder, "post.lua")
        lines.write_text("\n".join(bodies))
        script.write_text(_SCRIPT % lines)
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(script)]
        output = subprocess.run(  # noqa: S603 - our own command
            [*command, f"http://127.0.0.1:{port}{path}"],
            capture_output=True,
            text=True,
            check=True,
            timeout=seconds + 30,
        ).stdout
    found = json.loads(output.splitlines()[-1])
    return Load(
        rate=1e6 * found["requests"] / found["microseconds"],
        p50=found["p50"] / 1000,
        p99=found["p99"] / 1000,
        wrong=found["wrong"],
    )


def open_loop(port: int, path: str, bodies: Sequence[str], seconds: float, rate: float) -> Load:
    """Ask at a fixed rate, whatever the answers take; times count from when a request was due."""
    return asyncio.run(_own_loop(port, path, bodies, seconds, rate=rate))


async def _own_loop(port: int, path: str, bodies: Sequence[str], seconds: float, rate: float | None) -> Load:
    requests = [_request(path, body) for body in bodies]
    connections = CONNECTIONS if rate is None else 4 * CONNECTIONS
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(connections):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    taken: list[float] = []
    wrong = 0
    start = time.perf_counter()

    async def ask(number: int, due: float) -> None:
        nonlocal wrong
        reader, writer = await free.get()
        writer.write(requests[number % len(requests)])
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        await reader.readexactly(length)
        taken.append(time.perf_counter() - due)
        wrong += not head.startswith(b"HTTP/1.1 200 ")
        free.put_nowait((reader, writer))

    async def keep_asking(first: int) -> None:
        number = first
        while (now := time.perf_counter()) < start + seconds:
            await ask(number, now)
            number += connections

    async def ask_on_time(per_second: float) -> None:
        tasks = []
        for number in range(int(per_second * seconds)):
            due = start + number / per_second
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(ask(number, due)))
        await asyncio.gather(*tasks)

    if rate is None:
        await asyncio.gather(*(keep_asking(first) for first in range(connections)))
    else:
        await ask_on_time(rate)
    duration = time.perf_counter() - start
    while not free.empty():
        free.get_nowait()[1].close()
    p50, p99 = np.percentile(np.array(taken) * 1000, [50, 99])
    return Load(len(taken) / duration, float(p50), float(p99), wrong)


def _request(path: str, body: str) -> bytes:
    content = body.encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content
