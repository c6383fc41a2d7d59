from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fraud_kedro.errors import FraudKedroError
from fraud_kedro.simulation.events import Event, StreamOptions, TransactionEvent, stream
from fraud_kedro.simulation.label_delay import parse_label_delay
from fraud_kedro.simulation.options import SimulationError, SimulationOptions
from fraud_kedro.simulation.stream import Pacer, Progress, deliver, main

START = datetime(2026, 1, 1, tzinfo=UTC)
PAGE = Path(__file__).parents[2] / "docs" / "simulator.md"
COMMAND = [sys.executable, "-m", "fraud_kedro.simulation.stream"]


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


class Recorder:
    """A destination that notes when events were written and flushed."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.written: list[float] = []
        self.flushed_after: list[int] = []

    def write(self, event: Event) -> None:
        self.written.append(self.clock())

    def flush(self) -> None:
        self.flushed_after.append(len(self.written))


def at(*seconds: float) -> list[Event]:
    return [TransactionEvent("t", START + timedelta(seconds=second), {}) for second in seconds]


def test_events_are_paced_to_the_speed_and_close_ones_go_out_together() -> None:
    clock = Clock()
    recorder = Recorder(clock)
    seconds = (1_000, 1_001, 1_060, 1_060, 1_600)
    deliver(at(*seconds), recorder, pacer=Pacer(60, clock), sleep=clock.sleep)
    for written, second in zip(recorder.written, seconds, strict=True):
        assert written == pytest.approx(100 + (second - 1_000) / 60, abs=0.05)
    assert clock.sleeps == pytest.approx([1, 9])
    assert recorder.flushed_after == [2, 4, 5]


def test_without_a_pace_nothing_waits() -> None:
    clock = Clock()
    recorder = Recorder(clock)
    deliver(at(0, 10_000), recorder, sleep=clock.sleep)
    assert clock.sleeps == []
    assert recorder.flushed_after == [2]


@pytest.mark.parametrize("speed", [0, -1, float("nan"), float("inf")])
def test_a_speed_that_is_none_is_refused(speed: float) -> None:
    with pytest.raises(SimulationError, match="should be a number above 0"):
        Pacer(speed)


def test_progress_ends_with_the_counts_and_is_silent_after_an_error() -> None:
    out = io.StringIO()
    with Progress(5_000, out) as progress:
        for event in at(1, 2):
            progress.count(event)
    assert out.getvalue().startswith("2 of 5,000 transactions and 0 labels in 0.0 s\n")
    silent = io.StringIO()
    with pytest.raises(SimulationError), Progress(5_000, silent):
        raise SimulationError("no")
    assert silent.getvalue() == ""


def test_a_terminal_gets_one_line_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: True)
    monkeypatch.setattr("fraud_kedro.simulation.stream._TERMINAL_SECONDS", 0.0)
    with Progress(3, out) as progress:
        progress.count(at(1)[0])
    first, second, third = out.getvalue().split("\r\x1b[K")
    assert (first, second[:20], third[-1]) == ("", "1 of 3 transactions ", "\n")


def test_the_command_writes_the_stream_of_its_arguments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drift = {"column": "V7", "zeroed": 1.0, "from": 86_400}
    arguments = ["--rows", "500", "--fraud-rate", "0.1", "--seed", "3", "--drift", json.dumps(drift)]
    arguments += ["--label-delay", "exponential:2h:1d", "--labels", "all", "--origin", "2026-01-01T00:00:00Z"]
    main([*arguments, "--id-prefix", "demo", "--out", str(tmp_path / "events.jsonl")])
    assert "500 of 500 transactions and 500 labels" in capsys.readouterr().err
    main([*arguments, "--id-prefix", "demo"])
    printed = capsys.readouterr().out
    assert (tmp_path / "events.jsonl").read_text() == printed
    options = StreamOptions(
        table=SimulationOptions.parse(rows=500, fraud_rate=0.1, seed=3, drift=drift),
        label_delay=parse_label_delay("exponential:2h:1d"),
        labels="all",
        origin=START,
        id_prefix="demo",
    )
    lines = [json.loads(line) for line in printed.splitlines()]
    for line, event in zip(lines, stream(options), strict=True):
        assert line["transaction_id"] == event.transaction_id
        assert datetime.fromisoformat(line["event_time"]) == event.event_time
        if isinstance(event, TransactionEvent):
            assert line["features"] == event.features
        else:
            assert line["label"] == event.label


def test_the_page_names_every_option_and_its_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["--help"])
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert len(options) > 10
    assert {option for option in options if f"`{option}" not in page} == set()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, object] = {}
    exec(example, names)
    assert names["transaction_id"] == "sim-7-000009999"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "x"], "argument --rows: invalid int value: 'x'; see --help"),
        (["--rows", "0"], "rows: Input should be greater than or equal to 1"),
        (["--fraud-rate", "nan"], "fraud_rate: "),
        (["--drift", "{a"], "--drift is no JSON .*give one mapping or a list"),
        (["--drift", '{"column": "V99", "shift": 1}'], "no column 'V99' to change"),
        (["--label-delay", "7w"], "should be a duration such as 7d"),
        (["--labels", "some"], "argument --labels: invalid choice: 'some'"),
        (["--origin", "2026-01-01"], "origin: Input should have timezone info"),
        (["--speed", "0"], "should be a number above 0"),
        (["--out", "no/such/folder/x"], "Events cannot be written to no/such/folder/x: No such file"),
        (["--post", "here"], "should be the URL of a service"),
        (["--post", "http://h", "--out", "x"], "not allowed with argument"),
    ],
)
def test_a_wrong_argument_is_an_error_of_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(FraudKedroError, match=message) as error:
        main(arguments)
    assert "\n" not in str(error.value)


def test_an_error_is_one_line_and_exit_code_1() -> None:
    done = subprocess.run([*COMMAND, "--rows", "-5"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: The simulator cannot draw this table: rows: ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_line_and_exit_code_1() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*COMMAND, "--rows", "5000"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "Error: Events cannot be written to standard output: No space left on device.\n"


def test_a_reader_that_has_enough_ends_the_stream_without_a_word() -> None:
    process = subprocess.Popen(
        [*COMMAND, "--rows", "100000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    json.loads(process.stdout.readline())
    process.stdout.close()
    assert process.wait(timeout=30) == 0
    assert process.stderr.read() == ""
    process.stderr.close()


def test_ctrl_c_ends_a_paced_stream_with_whole_lines_and_the_counts(tmp_path: Path) -> None:
    out = tmp_path / "events.jsonl"
    with (tmp_path / "errors").open("w") as errors:
        process = subprocess.Popen(
            [*COMMAND, "--rows", "100000", "--speed", "300", "--out", str(out)],
            stderr=errors,
            # A shell in the background may have taught its children to ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
    deadline = time.monotonic() + 30
    while not (out.exists() and out.stat().st_size > 0):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(timeout=30) == 130
    lines = out.read_text().splitlines()
    assert all(json.loads(line)["type"] == "transaction" for line in lines)
    printed = (tmp_path / "errors").read_text()
    assert "Traceback" not in printed
    assert printed.startswith(f"{len(lines):,} of 100,000 transactions and 0 labels")
