"""What every command shares: the client, `--json`, and errors as exit codes."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer

from leasing import errors
from leasing.cli import show

if TYPE_CHECKING:
    from leasing.sdk.client import Client

P = ParamSpec("P")
R = TypeVar("R")

# DESIGN: 0 ok · 1 failed · 2 usage · 3 no room with --no-wait · 4 quota · 5 not found · 6 not signed in · 75 try again
EXIT_CODES: tuple[tuple[type[errors.LeasingError], int], ...] = (
    (errors.Invalid, 2),
    (errors.NoRoom, 3),
    (errors.OverQuota, 4),
    (errors.NotFound, 5),
    (errors.NotSignedIn, 6),
    (errors.Unavailable, 75),
    (errors.EngineDown, 75),
)

Json = Annotated[bool, typer.Option("--json", help="Print what the API says, for programs.")]


def client() -> Client:
    """Signed in, or `NotSignedIn`."""
    from leasing.sdk.client import Client  # lazy: --help and completion need no HTTP

    return Client()


def exit_code(error: errors.LeasingError) -> int:
    return next((code for cls, code in EXIT_CODES if isinstance(error, cls)), 1)


def reports_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Say what went wrong in a sentence and leave with its code; never a traceback."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except errors.LeasingError as error:
            if kwargs.get("json"):
                show.as_json({"code": error.code, "detail": error.message, "hint": error.hint})
            else:
                show.problem(error.message, error.hint)
            raise typer.Exit(exit_code(error)) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except BrokenPipeError:
            sys.stderr.close()  # the reader has gone, as `head` does; nothing is left to say
            raise typer.Exit(0) from None

    return wrapped


class App(typer.Typer):
    """A command group whose commands all report errors alike."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, **settings
        )

    def command(self, *args: Any, **kwargs: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:  # type: ignore[override]  # narrower on purpose
        register = super().command(*args, **kwargs)

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            register(reports_errors(function))
            return function

        return decorate
