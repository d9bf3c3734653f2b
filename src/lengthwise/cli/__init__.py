"""The command line: one verb a file, each imported only when it is called."""

from __future__ import annotations

import importlib
import os
import sys

import click

from lengthwise import __version__
from lengthwise.errors import LengthwiseError

#: verb -> module; the module's `command` is the click command. Listing imports none of them.
VERBS = {
    "serve": "lengthwise.cli.serve",
    "bench": "lengthwise.cli.bench",
    "simulate": "lengthwise.cli.simulate",
    "sweep": "lengthwise.cli.sweep",
    "convert": "lengthwise.cli.convert",
    "predict": "lengthwise.cli.predict",
    "log": "lengthwise.cli.log",
    "train": "lengthwise.cli.train",
    "evaluate": "lengthwise.cli.evaluate",
    "calibrate": "lengthwise.cli.calibrate",
    "systems": "lengthwise.cli.systems",
}


class Verbs(click.Group):
    """Loads a verb's module when it is asked for, so that `lengthwise --help` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """Name the verbs, in the order a new user meets them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one verb."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(VERBS[cmd_name]).command
        return command


class OperatorError(click.ClickException):
    """One of our errors as a line on stderr and exit code 2, without a traceback."""

    exit_code = 2


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lengthwise")
def cli() -> None:
    """Short requests first.

    Lengthwise predicts how long each LLM answer will be and puts short ones first, without starving
    the long. Start with `lengthwise serve`; see what it gains with `lengthwise bench --compare`.
    """


def main() -> None:
    """Run the command line; errors of ours, and of the system's, are one line, not a traceback."""
    try:
        cli(standalone_mode=False)
    except LengthwiseError as error:
        raise SystemExit(_fail(OperatorError(str(error)))) from None
    except click.ClickException as error:
        raise SystemExit(_fail(error)) from None
    except OSError as error:  # a full disk, a file that may not be read
        where = "" if error.filename is None else f"{error.filename}: "
        words = error.strerror or str(error)
        raise SystemExit(_fail(click.ClickException(f"{where}{words}"))) from None
    except click.Abort:
        raise SystemExit(130) from None


def _fail(error: click.ClickException) -> int:
    error.show()
    try:
        if sys.stdout is not None:  # None: the caller closed it
            sys.stdout.flush()
    except OSError:  # Python would try again at exit, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return error.exit_code
