"""Arguments that several commands share, so that a flag has one name, one type and one meaning everywhere."""

from argparse import HelpFormatter
from collections.abc import Callable, Mapping, Sequence

from jsonargparse import ArgumentParser
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveInt

from probe.cli.mistakes import Parser

Describe = Callable[[ArgumentParser], None]
Commands = Mapping[str, tuple[str, Describe]]  # name: one line of help, and what adds the arguments

TRACE = "folder of a trace, or the folder that `probe trace` wrote"
OWN_FOLDER = "default: out/, named after the prompt"
NOTHING_WRITTEN = "default: print only, write nothing"


def new_parser(prog: str | None = None, description: str | None = None, version: str | None = None) -> ArgumentParser:
    """A parser whose help is what stands in this folder, without types and nulls added to each line."""
    return Parser(prog=prog, description=description, version=version, formatter_class=HelpFormatter, print_config=None)


def add_commands(parser: ArgumentParser, table: Commands, dest: str, given: Sequence[str] | None = None) -> None:
    """The commands of a parser; of those that are not among `given`, the names only, as describing all takes time."""
    commands = parser.add_subcommands(required=True, dest=dest, metavar=dest.upper(), title=f"{dest}s")
    for name, (summary, describe) in table.items():
        command = new_parser(description=summary)
        commands.add_subcommand(name, command, help=summary)
        if given is None or name in given:
            describe(command)  # after it: a command may have commands of its own


def add_prompt(parser: ArgumentParser) -> None:
    """The prompt, and the model that draws it."""
    parser.add_argument("prompt", type=str, metavar="PROMPT", help="text prompt")
    add_model(parser)


def add_model(parser: ArgumentParser) -> None:
    """Which model, and where it runs."""
    source = "folder or hub id of a model (default: Menagerie, built in)"
    parser.add_argument("--model", type=str, metavar="SOURCE", help=source)
    add_device(parser)


def add_device(parser: ArgumentParser, of: str = "the model") -> None:
    """Where a model runs."""
    parser.add_argument("--device", type=str, metavar="DEVICE", help=f"device of {of}, such as cuda (default: cpu)")


def add_seed(parser: ArgumentParser) -> None:
    """Where the noise starts."""
    parser.add_argument(
        "--seed", type=NonNegativeInt, default=0, metavar="N", help="seed of the initial noise (default: 0)"
    )


def add_steps(parser: ArgumentParser) -> None:
    """How many denoising steps."""
    parser.add_argument("--steps", type=PositiveInt, metavar="N", help="denoising steps (default: the pipeline's)")


def add_guidance(parser: ArgumentParser) -> None:
    """One guidance scale."""
    default = "guidance scale (default: the pipeline's; 5 for Menagerie)"
    parser.add_argument("--guidance", type=NonNegativeFloat, metavar="SCALE", help=default)


def add_sampling(parser: ArgumentParser) -> None:
    """How one picture is drawn."""
    add_steps(parser)
    add_guidance(parser)
    scheduler = "scheduler of diffusers, such as DDIMScheduler (default: the model's own)"
    parser.add_argument("--scheduler", type=str, metavar="NAME", help=scheduler)
    parser.add_argument("--width", type=PositiveInt, metavar="PIXELS", help="image width (default: the model's)")
    parser.add_argument("--height", type=PositiveInt, metavar="PIXELS", help="image height (default: the model's)")


def add_prompting(parser: ArgumentParser) -> None:
    """What else of the text is given to the pipeline."""
    parser.add_argument("--negative", type=str, metavar="TEXT", help="negative prompt")
    parser.add_argument(
        "--cut", action="store_true", help="truncate a prompt that is too long for the text encoder, instead of failing"
    )


def add_output(parser: ArgumentParser, default: str = OWN_FOLDER) -> None:
    """Where the result goes."""
    add = parser.add_argument
    add("--out", type=str, metavar="FOLDER", help=f"new folder for the result ({default})")
    add("--overwrite", action="store_true", help="replace an earlier result in that folder")
    add("--config", action="config", metavar="FILE", help="read options from a file, such as an earlier settings.yaml")
