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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from kedro.config import MissingConfigException
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import env_option
from kedro.framework.session import KedroSession
from kedro.io import DatasetError
from kedro.validation.exceptions import DataValidationError, ParameterValidationError

from fraud_kedro.errors import FraudKedroError, RegistryError

if TYPE_CHECKING:
    from fraud_kedro.champion.registry import RegisteredVersion

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


def _not_blank(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    if not value.strip():
        raise click.BadParameter("it is recorded with the version, so it cannot be blank")
    return value.strip()


def _who(command: Any) -> Any:
    by = click.option(
        "--by",
        default=getpass.getuser,
        show_default="your user name",
        callback=_not_blank,
        help="Who decides.",
    )
    why = click.option(
        "--why", required=True, callback=_not_blank, help="The reason; recorded with the version."
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
        for line in _judgement(waiting, project.registry.find("champion")):
            click.echo(line)
        project.crown(waiting.version, by=by, why=why)
        project.registry.delete_alias("challenger", by=by, why="became champion")


def _judgement(waiting: RegisteredVersion, champion: RegisteredVersion | None) -> Iterator[str]:
    """What the gate said of a challenger, and whether its champion is another one by now."""
    from fraud_kedro.pipelines.export.registration import JUDGED_AGAINST_TAG, PROMOTION_TAG, numbered

    if said := waiting.tags.get(PROMOTION_TAG):
        yield f"The gate said of version {waiting.version}: {said}."
    before, now = waiting.tags.get(JUDGED_AGAINST_TAG), numbered(champion.version if champion else None)
    if before is not None and before != now:
        yield (
            f"The champion has changed since: it was {before} when version {waiting.version} was judged, "
            f"now it is {now}."
        )


@_champion_command("rollback", "Make the champion before this one the champion again.", _who)
def _rollback(by: str, why: str, env: str | None) -> None:
    with _project(env) as project:
        current = project.registry.resolve("champion").version
        moves = [
            move
            for move in project.registry.history()
            if move["alias"] == "champion" and move["version"] is not None
        ]
        earlier = _champion_before(current, [move["version"] for move in moves])
        if earlier is None:
            raise RegistryError(
                f"There is no champion before version {current} to go back to{_given_up(current, moves)}. "
                "`kedro champion set VERSION --why REASON` makes any version the champion."
            )
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


def _given_up(current: int, moves: Sequence[Mapping[str, Any]]) -> str:
    """Say which versions were champion and why none of them is gone back to, where there are any."""
    others = sorted({move["version"] for move in moves} - {current})
    if not others:
        return ""
    names = f"version {others[0]} was" if len(others) == 1 else f"versions {_listed(others)} were"
    # Moved by other means, the last entry is another version's.
    why = f' ("{moves[-1]["why"]}")' if moves[-1]["version"] == current else ""
    return f": {names} given up when version {current} was made the champion again{why}"


def _listed(numbers: Sequence[int]) -> str:
    return " and ".join(", ".join(map(str, numbers)).rsplit(", ", 1))


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
