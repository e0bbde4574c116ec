"""What every command shares: the server it talks to, `--json`, and errors as exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from leasing import errors
from leasing.cli import show

if TYPE_CHECKING:
    from leasing.sdk.client import Client
    from leasing.sdk.transport import Transport

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
INTERRUPTED = 130

Json = Annotated[bool, typer.Option("--json", help="Print what the API says, for programs.")]


class App(typer.Typer):
    """A group of commands, in the one plain style. By itself a noun lists what there is; any other group helps."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            invoke_without_command=True,
            rich_markup_mode=None,
            pretty_exceptions_enable=False,
            context_settings={"help_option_names": ["-h", "--help"]},
            **settings,
        )
        self.callback()(self.alone)

    def alone(self, context: typer.Context) -> None:
        if context.invoked_subcommand is not None:
            return
        listing = next((one.callback for one in self.registered_commands if one.name == "ls"), None)
        if listing is not None and context.parent is not None:
            listing()
        else:
            print(context.get_help())


def client() -> Transport:
    """The server, signed in: answers as the api words them. Raises `NotSignedIn`."""
    from leasing.sdk import credentials  # lazy: --help and completion need no HTTP
    from leasing.sdk.transport import Transport

    return Transport(credentials.load())


def listing(
    path: str, json: bool, columns: Sequence[str], row: Callable[[Any], Sequence[str]], *, empty: str
) -> Any:
    """What the api lists at `path`, shown as a table with a `row` for each, or as it is; the answer.

    `empty` teaches what to do when there is nothing.
    """
    with client() as server:
        page = server.call("GET", path)
    if json:
        show.as_json(page)
    else:
        show.table(columns, [row(one) for one in page["items"]], empty=empty)
    return page


def sdk() -> Client:
    """The same through the SDK, for what takes more than one call. Raises `NotSignedIn`."""
    from leasing.sdk.client import Client  # lazy: its models take longer than all that a short command does

    return Client()


def exit_code(error: errors.LeasingError) -> int:
    return next((code for cls, code in EXIT_CODES if isinstance(error, cls)), 1)


def run(command: Callable[[], Any], arguments: Sequence[str]) -> int:
    """The exit code of a command line. What went wrong is said in a sentence, in JSON for who asked so."""
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    say = _as_json if "--json" in own else show.problem
    try:
        code = command()
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except errors.LeasingError as error:
        say(error.message, error.hint, error.code)
        return exit_code(error)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        hint = f"See: {context.command_path} --help" if context else None
        say(error.format_message(), hint, errors.Invalid.code)
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        print(file=sys.stderr)  # the terminal shows ^C, and the prompt belongs on a line of its own
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has gone, as `head` does: nothing is left to say, not even at the interpreter's own last flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        say(f"{named}{error.strerror or error}.", None, errors.LeasingError.code)
        return 1


def _as_json(message: str, hint: str | None, code: str) -> None:
    show.as_json({"code": code, "detail": message, "hint": hint})
