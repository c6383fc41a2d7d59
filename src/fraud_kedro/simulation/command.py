"""How the simulator's commands end: an error that the user can mend is one line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from fraud_kedro.errors import FraudKedroError

# What a shell reports of a program that Ctrl-C has ended.
_INTERRUPTED = 130


class CommandLineError(FraudKedroError):
    """A command was given arguments that it does not know."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments."""
        raise CommandLineError(f"{message}; see --help")


def run(command: Callable[[], None]) -> NoReturn:
    """Run a command and leave the program.

    Exit codes are 1 for an expected error, 130 after Ctrl-C, and 0 if the reader
    of a pipe has had enough (``| head``), which is no failure.
    """
    code = 0
    try:
        command()
        sys.stdout.flush()
    except FraudKedroError as error:
        print(f"Error: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except BrokenPipeError:
        pass
    try:
        sys.stdout.flush()
    except OSError:
        # Nobody takes the rest, and the interpreter would complain of it when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
