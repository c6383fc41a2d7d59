"""The project's own part of the `kedro` command.

``run`` is Kedro's, but for one thing: an error that the user can mend is one
line, with the traceback in ``logs/`` or by ``--verbose``. ``champion`` shows and
moves the alias that decides what is served.
"""

from __future__ import annotations

import getpass
import logging
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from kedro.config import MissingConfigException
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import env_option
from kedro.framework.session import KedroSession
from kedro.io import DatasetError
from kedro.validation.exceptions import DataValidationError, ParameterValidationError

from fraud_kedro.errors import FraudKedroError, RegistryError

logger = logging.getLogger(__name__)

LOG_FILE = "logs/fraud_kedro.log"


@click.group(name="fraud_kedro")
def cli() -> None:
    """Commands of fraud_kedro."""


class _OneLineErrors(click.Command):
    """A command whose expected errors are one line."""

    def invoke(self, ctx: click.Context) -> Any:
        verbose = ctx.params.pop("verbose")
        try:
            return super().invoke(ctx)
        # Anything may come out of a run; what is not expected is raised again.
        except Exception as error:
            message = expected_message(error)
            if message is None or verbose:
                raise
            logger.debug("The traceback of the error above", exc_info=error)
            raise click.ClickException(f"{message} (traceback: --verbose, or {LOG_FILE})") from error


_VERBOSE = click.Option(["--verbose"], is_flag=True, help="Show the traceback of an error.")


def expected_message(error: BaseException) -> str | None:
    """What to tell the user about an error, None if it is a defect of the project.

    The project's own errors come wrapped by Kedro; of several of them, the outermost says where.
    """
    chain = list(_causes(error))
    for link in chain:
        if isinstance(link, FraudKedroError):
            return str(link)
    for link in reversed(chain):
        if isinstance(link, DataValidationError):
            return link.message
        if isinstance(link, ParameterValidationError | DatasetError | MissingConfigException):
            return _in_one_line(str(link))
    # Kedro has no type of its own for a wrong pipeline, node or tag.
    if isinstance(error, ValueError) and _raised_in(error, "kedro"):
        return _in_one_line(str(error))
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _in_one_line(text: str) -> str:
    return " ".join(re.sub(r"For further information visit \S+", "", text).split())


def _raised_in(error: BaseException, package: str) -> bool:
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__", "")).split(".")[0] == package


cli.add_command(
    _OneLineErrors(
        "run",
        callback=kedro_run.callback,
        params=[*kedro_run.params, _VERBOSE],
        help=kedro_run.help,
        context_settings=kedro_run.context_settings,
    )
)


@cli.group()
def champion() -> None:
    """Show and move the alias that decides what is served."""


def _reason(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    if not value.strip():
        raise click.BadParameter("a reason is recorded with the version, so it cannot be blank")
    return value.strip()


def _who(command: Any) -> Any:
    by = click.option("--by", default=getpass.getuser, show_default="your user name", help="Who decides.")
    why = click.option(
        "--why", required=True, callback=_reason, help="The reason; recorded with the version."
    )
    return by(why(command))


def _champion_command(
    name: str, help_text: str, *options: Any
) -> Callable[[Callable[..., None]], click.Command]:
    def register(callback: Callable[..., None]) -> click.Command:
        for option in reversed((*options, env_option)):
            callback = option(callback)
        command = click.command(name, cls=_OneLineErrors, help=help_text)(callback)
        command.params.append(_VERBOSE)
        champion.add_command(command)
        return command

    return register


@_champion_command("show", "List the versions, their aliases and figures.")
def _show(env: str | None) -> None:
    from fraud_kedro.summary import print_versions

    with _project(env) as project:
        print_versions(project.registry.versions(), project.registry.history())


@_champion_command("set", "Make VERSION the champion.", click.argument("version", type=int), _who)
def _set(version: int, by: str, why: str, env: str | None) -> None:
    with _project(env) as project:
        project.crown(version, by=by, why=why)


@_champion_command("approve", "Make the waiting challenger the champion.", _who)
def _approve(by: str, why: str, env: str | None) -> None:
    with _project(env) as project:
        waiting = project.registry.find("challenger")
        if waiting is None:
            raise RegistryError("No challenger is waiting. `kedro champion show` lists the versions.")
        project.crown(waiting.version, by=by, why=why)
        project.registry.delete_alias("challenger", by=by, why="became champion")


@_champion_command("rollback", "Make the champion before this one the champion again.", _who)
def _rollback(by: str, why: str, env: str | None) -> None:
    with _project(env) as project:
        current = project.registry.resolve("champion").version
        moves = [move["version"] for move in project.registry.history() if move["alias"] == "champion"]
        earlier = _champion_before(current, [version for version in moves if version is not None])
        if earlier is None:
            raise RegistryError(f"There is no champion before version {current} to go back to.")
        project.crown(earlier, by=by, why=why)


def _champion_before(current: int, moves: Sequence[int]) -> int | None:
    """The champion to go back to: a version that was given up is not one."""
    reigns: list[int] = []
    for version in (*moves, current):
        if version in reigns:
            # Back to an earlier champion: those after it were given up.
            del reigns[reigns.index(version) + 1 :]
        else:
            reigns.append(version)
    return reigns[-2] if len(reigns) > 1 else None


class _Project:
    """The registry and the local copy of the champion, as one environment names them."""

    def __init__(self, context: Any) -> None:
        from fraud_kedro.champion.registry import Registry

        self.registry = Registry(context.mlflow.server.mlflow_tracking_uri)
        self._local_copy = context.catalog.get("champion_bundle")

    def crown(self, version: int, *, by: str, why: str) -> None:
        """Move the alias and renew the local copy."""
        from fraud_kedro.pipelines.export.registration import bundle_draft

        # Before the alias moves: a version whose bundle is damaged cannot be served.
        draft = bundle_draft(self.registry, self.registry.version(version))
        self.registry.set_alias("champion", version, by=by, why=why)
        self._local_copy.save(draft)
        click.echo(f"Version {version} is the champion. A running service follows within its poll interval.")


@contextmanager
def _project(env: str | None) -> Iterator[_Project]:
    with KedroSession.create(env=env) as session:
        yield _Project(session.load_context())  # type: ignore[attr-defined]
