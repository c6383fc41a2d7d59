"""Build a Bento of the champion and prove that it serves where nothing else is installed.

``python .ci/bento.py [--root data]``

The build runs on a copy of the tracked files with the champion of ``--root`` in
it. What the Bento names as its requirements is installed into an empty
environment, the Bento is served from there, and its answer to ``POST /predict``
must be what the bundle promises. Prints sizes and times; exit code 1 if anything
is missing, too much, or wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
CHAMPION = "data/06_models/champion"
BUNDLE_FILES = {"model.onnx", "metadata.json", "reference.parquet", "model_card.md", "registration.json"}
NOT_FOR_SERVING = {"kedro", "lightgbm", "mlflow", "optuna", "polars", "scikit-learn", "xgboost-cpu"}
READY_WITHIN_SECONDS = 120
TOLERANCE = 1e-6


def main() -> None:
    """Build, check, install, serve, ask."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--root", type=Path, default=Path("data"), help="whose champion goes into the Bento")
    champion = PROJECT / parser.parse_args().root / "06_models" / "champion"
    if not champion.is_dir():
        sys.exit(f"No champion at {champion}. Train one with `kedro run`.")
    with tempfile.TemporaryDirectory(prefix="bento-") as folder:
        prove(champion, Path(folder))


def prove(champion: Path, folder: Path) -> None:
    """Do it all below one folder."""
    project = copied_project(champion, folder / "project")
    home = folder / "home"
    began = time.perf_counter()
    tag = build(project, home)
    report("build", f"{time.perf_counter() - began:.1f} s")
    bento = next((home / "bentos").glob("*/*/bento.yaml")).parent
    check_contents(bento)
    report(
        "Bento", f"{mebibytes(bento):.1f} MiB, of which the bundle {mebibytes(bento / 'src' / CHAMPION):.1f}"
    )
    began = time.perf_counter()
    environment = empty_environment(bento, folder / "environment")
    report(
        "environment",
        f"{mebibytes(environment):.0f} MiB, installed in {time.perf_counter() - began:.0f} s",
    )
    for start in ("cold start", "second start"):
        seconds, difference = serve_and_ask(environment, home, tag, folder / "run")
        report(start, f"{seconds:.1f} s from the command to the first answer of /predict")
        if not difference <= TOLERANCE:
            sys.exit(f"/predict is {difference:g} away from what the bundle promises.")


def copied_project(champion: Path, target: Path) -> Path:
    """What a fresh clone has, and a champion: nothing that lies about here gets into the Bento."""
    tracked = subprocess.check_output(["git", "ls-files", "-z"], cwd=PROJECT, text=True)  # noqa: S607
    for name in filter(None, tracked.split("\0")):
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / name, place)
    shutil.copytree(champion, target / CHAMPION)
    return target


def build(project: Path, home: Path) -> str:
    """`bentoml build` in the project; gives the tag."""
    variables = {**os.environ, "BENTOML_HOME": str(home), "PYTHONPATH": str(project / "src")}
    before = tree(project)
    done = subprocess.run(  # noqa: S603
        [BIN / "bentoml", "build", "--output", "tag"],
        cwd=project,
        env=variables,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        sys.exit(f"bentoml build failed:\n{done.stdout}{done.stderr}")
    if tree(project) != before:
        sys.exit("bentoml build has changed the project itself.")
    return done.stdout.strip().splitlines()[-1].removeprefix("__tag__:")


def tree(project: Path) -> dict[str, bytes]:
    """Every file but compiled ones and logs."""
    return {
        str(file): file.read_bytes()
        for file in project.rglob("*")
        if file.is_file() and file.suffix != ".pyc" and "logs" not in file.parts
    }


def check_contents(bento: Path) -> None:
    """The whole bundle, the serving extra alone, and no address of a package index."""
    found = {file.name for file in (bento / "src" / CHAMPION).iterdir()}
    if missing := BUNDLE_FILES - found:
        sys.exit(f"The Bento lacks {', '.join(sorted(missing))} of the bundle.")
    requirements = (bento / "env/python/requirements.txt").read_text(encoding="utf-8")
    names = set(re.findall(r"^([a-z0-9][a-z0-9._-]*)==", requirements, re.MULTILINE))
    if unwanted := names & NOT_FOR_SERVING:
        sys.exit(f"The Bento requires {', '.join(sorted(unwanted))}, which no service needs.")
    locked = (PROJECT / "locks/serving.txt").read_text(encoding="utf-8")
    if extra := names - set(re.findall(r"^([a-z0-9][a-z0-9._-]*)==", locked, re.MULTILINE)):
        sys.exit(f"The Bento requires {', '.join(sorted(extra))}, which locks/serving.txt does not have.")
    for file in (bento / "bento.yaml", *(bento / "env").rglob("*")):
        if file.is_file() and re.search(
            r"--(extra-)?index-url|--find-links|--trusted-host", file.read_text()
        ):
            sys.exit(f"{file.name} in the Bento names a package index.")


def empty_environment(bento: Path, target: Path) -> Path:
    """A virtual environment with the Bento's requirements and nothing else."""
    venv.create(target)
    requirements = bento / "env/python/requirements.txt"
    command = [BIN / "uv", "pip", "install", "--quiet", "--python", target / "bin/python", "-r", requirements]
    if subprocess.run(command).returncode != 0:  # noqa: S603
        sys.exit("The Bento's requirements cannot be installed.")
    return target


def serve_and_ask(environment: Path, home: Path, tag: str, where: Path) -> tuple[float, float]:
    """Seconds to the first answer, and how far it is from what the bundle promises."""
    where.mkdir(exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("FRAUD_", "PYTHON", "VIRTUAL_ENV"))}
    variables = {
        **kept,
        "BENTOML_HOME": str(home),
        "PATH": f"{environment / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin",
    }
    metadata = next((home / "bentos").glob(f"*/*/src/{CHAMPION}/metadata.json"))
    promised = json.loads(metadata.read_text(encoding="utf-8"))
    (row, *_), (probability, *_) = promised["self_test"]["rows"], promised["self_test"]["probabilities"]
    body = dict(zip(promised["schema"]["features"], row, strict=True))
    with (where / "serve.log").open("w") as log:
        began = time.perf_counter()
        server = subprocess.Popen(  # noqa: S603
            [environment / "bin/bentoml", "serve", tag, "--port", str(port)],
            cwd=where,
            env=variables,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        answer = first_answer(server, port, body, where / "serve.log")
        return time.perf_counter() - began, abs(answer["probability"] - probability)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


def first_answer(server: subprocess.Popen[bytes], port: int, body: dict[str, Any], log: Path) -> Any:
    """Ask until the service answers with 200."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/predict",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    problem: Exception | None = None
    end = time.monotonic() + READY_WITHIN_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return json.load(answer)
        except (urllib.error.URLError, ConnectionError) as error:
            problem = error
            time.sleep(0.1)
    sys.exit(f"The Bento did not answer ({problem}):\n{log.read_text()}")


def mebibytes(folder: Path) -> float:
    """What the files below a folder hold."""
    return float(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())) / 1024**2


def report(what: str, value: str) -> None:
    """One line of the result."""
    print(f"{what:<14} {value}", flush=True)


if __name__ == "__main__":
    main()
