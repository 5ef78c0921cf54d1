"""Inspect, use and clean up trained runs and sweeps: `python -m cifar_exp COMMAND`."""
# PYTHON_ARGCOMPLETE_OK

import argparse
import sys

from cifar_exp.errors import UserError, import_problem

try:
    import argcomplete

    from cifar_exp.cli import check_data, doctor, inference, report, results
    from cifar_exp.files import disk_full
    from cifar_exp.out_of_memory import TOO_LITTLE_MEMORY, free_memory, is_out_of_memory
    from cifar_exp.terminal import keep_output, output_problem, printable
except (ImportError, SyntaxError) as error:
    sys.exit(import_problem(error))
except KeyboardInterrupt:
    print("Interrupted.", file=sys.stderr)
    sys.exit(130)

_LISTS = ("images", "data", "runs")  # arguments with any number of words; a command has at most one


def main() -> int:
    """Run a command, report errors in one or two lines, and return the exit status."""
    try:
        parser = _parser()
        argcomplete.autocomplete(parser)  # exits if a shell asks for completions
        keep_output()
        arguments = _arguments(parser)
        status: int = arguments.run(arguments)
        if problem := output_problem():
            raise UserError(problem)
        return status
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except Exception as error:
        if (message := _explained(error)) is None:
            raise
        print(printable(message), file=sys.stderr)
        return 1


def _arguments(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line, where options may precede or follow the words of a list."""
    # argparse ends a list at the first option after it, and leaves the words after the option
    arguments, others = parser.parse_known_args()
    found = [getattr(arguments, name, None) for name in _LISTS]
    lists = [words for words in found if isinstance(words, list)]  # `doctor --data` has one word
    options = [word for word in others if word.startswith("-")]
    if others and (options or not lists):
        arguments.parser.error(f"unrecognized arguments: {' '.join(options or others)}")
    for words in lists:
        words += others
    return arguments


def _explained(error: Exception) -> str | None:
    """Return a line on what is wrong outside of the program; None if the program is at fault."""
    if isinstance(error, UserError):
        return str(error)
    free_memory(error)
    if is_out_of_memory(error):
        return TOO_LITTLE_MEMORY
    if full := disk_full(error):
        file = f": cannot write {full.filename}" if full.filename else ""
        return f"disk full{file}; free some space, or use --out FOLDER if the command has it"
    if isinstance(error, FileExistsError):
        return f"{error.filename}: expected a folder, got a file; choose another --out FOLDER"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    if isinstance(error, ImportError | SyntaxError):
        return import_problem(error)
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cifar_exp", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (results, report, inference, check_data, doctor):
        module.add_commands(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
