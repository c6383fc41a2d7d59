"""A writer that is killed at any step leaves a whole bundle: the one before or the new one."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# A process of its own, which forks: each child dies by SIGKILL at one step of the write.
_KILL_AT_EACH_STEP = """
import json, os, shutil, signal, sys
from pathlib import Path
from fraud_kedro.champion.bundle import Registration, read_bundle
from fraud_kedro.champion.bundle_writer import write_bundle
from fraud_kedro.errors import BundleError

source, target, replaces = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "replaces"
bundle = read_bundle(source)
reference = (source / "reference.parquet").read_bytes()
STEPS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}

def write(number):
    write_bundle(target, bundle.metadata, model=bundle.model, reference=reference, card=f"# {number}",
                 registration=Registration(version=number, run_id=f"run{number}"))

def dying_write(step):
    left, steps, sync = [step], [], os.fsync
    def count(name):
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
    def audit(name, arguments):
        if name in STEPS and str(target.parent) in str(arguments[0]):
            count(name)
    def counted_sync(descriptor):
        count("fsync")
        sync(descriptor)
    os.fsync = counted_sync
    sys.addaudithook(audit)
    write(2)
    os._exit(0)

found, step, done = [], 0, False
while not done:
    shutil.rmtree(target.parent, ignore_errors=True)
    if replaces:
        write(1)
    child = os.fork()
    if child == 0:
        dying_write(step)
    status = os.waitpid(child, 0)[1]
    done = status == 0
    assert done or os.WTERMSIG(status) == signal.SIGKILL, status
    try:
        found.append(read_bundle(target).registration.version)
    except BundleError as error:
        found.append(str(error))
    write(3)
    assert read_bundle(target).registration.version == 3
    assert not target.with_name(target.name + ".previous").exists()
    step += 1
print(json.dumps(found))
"""


def outcomes(make_bundle, tmp_path, kind):
    source = make_bundle(tmp_path / "source")
    target = tmp_path / "there" / "champion"
    done = subprocess.run(
        [sys.executable, "-c", _KILL_AT_EACH_STEP, str(source.folder), str(target), kind],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="The steps are tried in forked processes.")
def test_a_writer_killed_at_any_step_leaves_the_bundle_before_or_the_new_one(make_bundle, tmp_path):
    found = outcomes(make_bundle, tmp_path, "replaces")

    # Five files are opened, written and synced before anything is renamed.
    assert len(found) > 20
    switched = found.index(2)
    assert found == [1] * switched + [2] * (len(found) - switched)
    assert switched >= 12


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="The steps are tried in forked processes.")
def test_a_first_writer_killed_at_any_step_leaves_no_half_bundle(make_bundle, tmp_path):
    found = outcomes(make_bundle, tmp_path, "first")

    switched = found.index(2)
    assert found[switched:] == [2] * (len(found) - switched)
    assert all("No bundle at" in message for message in found[:switched])
