"""The commands of `probe` and their arguments. Nothing heavy is imported here: `probe --help` answers at once."""

from collections.abc import Sequence

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt

from probe._version import __version__
from probe.cli import arguments
from probe.cli.arguments import NOTHING_WRITTEN, TRACE
from probe.cli.study_parser import bias_options, study_options


def build(given: Sequence[str] | None = None) -> ArgumentParser:
    """The parser of `probe`; commands that are not among the words `given` have no arguments yet."""
    parser = arguments.new_parser(prog="probe", description="See inside diffusion models.", version=__version__)
    arguments.add_commands(parser, COMMANDS, "command", given)
    return parser


def trace_options(parser: ArgumentParser) -> None:
    """`probe trace PROMPT`, which can also be read from a settings file."""
    arguments.add_prompt(parser)
    arguments.add_seed(parser)
    add = parser.add_argument
    add("--words", type=str, metavar="A,B", help="words to record (default: the content words)")
    add("--explain", type=str, metavar="A,B", help="explainers and tables to record for; most run extra passes")
    add("--patch", type=str, metavar="PROMPT", help="activation patching: which layers carry what this prompt changes")
    add("--at", type=str, metavar="STEPS", help="steps at which the extra passes run (default: every fifth)")
    add("--lens", type=str, metavar="N,M", help="also draw with the first N, M layers of the text encoder, or `all`")
    add("--concepts", type=str, metavar="A,B", help="words to look for in the image, in the prompt or not")
    add("--image", type=str, metavar="FILE", help="analyse this image instead, noised to --steps levels")
    add("--invert", action="store_true", help="with --image: DDIM inversion to noise and back")
    add("--dry-run", action="store_true", help="say how many bytes the recording would hold; draw and write nothing")
    add("--animate", action="store_true", help="also write each subject's map over the steps, as figures/*.gif")
    arguments.add_sampling(parser)
    arguments.add_prompting(parser)
    arguments.add_output(parser)


def add_judge(parser: ArgumentParser) -> None:
    """Who looks at the pictures."""
    parser.add_argument("--judge", type=str, metavar="MODULE:NAME", help=JUDGE)


def diagnose_options(parser: ArgumentParser) -> None:
    """`probe diagnose PROMPT`."""
    arguments.add_prompt(parser)
    add = parser.add_argument
    add("--seeds", type=str, default="0", metavar="RANGE", help="seeds, such as 0-15 or 1,4,9 (default: 0)")
    add("--subjects", type=str, metavar="A,B", help=SUBJECTS)
    add(
        "--until",
        type=PositiveInt,
        metavar="N",
        help="predict from the first N steps; the judge then sees what they predict",
    )
    add(
        "--explain",
        action="store_true",
        help="also look at the relevancy of the words, and at what leaving them out changes, at one step",
    )
    add_judge(parser)
    arguments.add_sampling(parser)
    arguments.add_prompting(parser)
    arguments.add_output(parser, NOTHING_WRITTEN)


def nurse_options(parser: ArgumentParser) -> None:
    """`probe nurse PROMPT`."""
    arguments.add_prompt(parser)
    arguments.add_seed(parser)
    add = parser.add_argument
    default = "AttendAndExcite"
    add("--method", type=str, default=default, metavar="NAME", help=f"method of probe.nurse (default: {default})")
    add("--subjects", type=str, metavar="A,B", help=SUBJECTS)
    add("--boxes", type=str, metavar="BOXES", help="left,top,right,bottom of each: 'cat=0,0,.5,1; dog=.5,0,1,1'")
    add("--set", type=str, metavar="NAME=VALUE", help="settings of the method, separated by semicolons: 'strength=0.5'")
    add_judge(parser)
    arguments.add_sampling(parser)
    arguments.add_prompting(parser)
    arguments.add_output(parser)


def concept_options(parser: ArgumentParser) -> None:
    """`probe concept PROMPT`."""
    arguments.add_prompt(parser)
    arguments.add_seed(parser)
    add = parser.add_argument
    solver = "conceptor"
    add("--solver", type=str, default=solver, metavar="NAME", help=f"sparse, closed, mixture, ... (default: {solver})")
    add("--pictures", type=PositiveInt, metavar="N", help="training images, drawn by the model (default: the solver's)")
    add("--learning-steps", type=PositiveInt, metavar="N", help="optimisation steps (default: the solver's)")
    add("--words", type=str, metavar="A,B", help="vocabulary of the decomposition (default: all whole words)")
    add("--without", type=str, metavar="A,B", help="words to leave out of the vocabulary")
    add("--checkpoint", type=str, metavar="FOLDER", help="save progress here, and resume from it")
    add("--prune", type=str, metavar="RANGE", help="seeds such as 0-3: find the words that each of these images needs")
    add("--concept", type=str, metavar="FOLDER", help="with --prune: use this saved concept, learn nothing")
    add(
        "--eyes", type=str, metavar="FOLDER", help="CLIP model that compares images (default: Menagerie's, for its own)"
    )
    arguments.add_sampling(parser)
    arguments.add_output(parser)


def settings(options: Namespace, describe: arguments.Describe = trace_options) -> str:
    """The options of a command as a file that `--config` reads; where the result went is no part of it."""
    parser = arguments.new_parser()
    describe(parser)
    left_out = ("out", "overwrite", "config")
    given = {name: value for name, value in vars(options).items() if value is not None and name not in left_out}
    return parser.dump(Namespace(given), skip_validation=True)


def open_options(parser: ArgumentParser) -> None:
    """`probe open TRACE`."""
    parser.add_argument("trace", type=str, metavar="TRACE", help=TRACE)
    parser.add_argument("--browser", action="store_true", help="open the report in the browser")


def explain_options(parser: ArgumentParser) -> None:
    """`probe explain TRACE`."""
    add = parser.add_argument
    add("trace", type=str, metavar="TRACE", help=TRACE)
    add("--method", type=str, default="attention", metavar="A,B", help="explainers, or `all` (default: attention)")
    add("--words", type=str, metavar="A,B", help="words to explain (default: the content words)")
    add("--table", type=str, metavar="A,B", help="print tables by word and layer instead of maps: names, or `all`")
    add("--region", type=str, metavar="BOX", help="rank the words of a box left,top,right,bottom or of a cell y,x")
    add("--image", type=NonNegativeInt, default=0, metavar="N", help="which image of a batch (default: 0)")
    add("--frame", type=int, metavar="N", help="which latent frame of a video (default: mean over frames)")
    arguments.add_output(parser, NOTHING_WRITTEN)


def compare_options(parser: ArgumentParser) -> None:
    """`probe compare A B`."""
    add = parser.add_argument
    add("first", type=str, metavar="A", help=TRACE)
    add("second", type=str, metavar="B", help="another, such as the same prompt with another model, seed or scale")
    add("--words", type=str, metavar="A,B", help="words, or pairs such as cat=dog (default: the words of both)")
    arguments.add_output(parser, NOTHING_WRITTEN)


def verify_options(parser: ArgumentParser) -> None:
    """`probe verify TRACE`."""
    parser.add_argument("trace", type=str, metavar="TRACE", help=TRACE)


def doctor_options(parser: ArgumentParser) -> None:
    """`probe doctor [MODEL]`."""
    add = parser.add_argument
    add("model", type=str, nargs="?", metavar="MODEL", help="folder or hub id of a model to try for two steps")
    arguments.add_device(parser)
    add("--families", action="store_true", help="print the table of verified model families, as Markdown")


def dashboard_options(parser: ArgumentParser) -> None:
    """`probe dashboard`."""
    add = parser.add_argument
    add("--folder", type=str, default="out", metavar="FOLDER", help="folder of the traces (default: out)")
    add("--port", type=PositiveInt, default=8501, metavar="N", help="port on this machine (default: 8501)")
    add("--browser", action="store_true", help="open the dashboard in the browser")


def world_options(parser: ArgumentParser) -> None:
    """`probe world`."""
    add = parser.add_argument
    add("--sheet", type=str, required=True, metavar="FILE", help="image file to write (.png)")
    add("--seed", type=NonNegativeInt, default=0, metavar="N", help="seed of the scenes (default: 0)")
    add("--count", type=PositiveInt, default=24, metavar="N", help="number of scenes (default: 24)")


JUDGE = (
    "who looks at the images: your function (picture, words) -> {word: probability}, or object with read(picture) "
    "(default: Menagerie's, of its own images)"
)
SUBJECTS = "words that the image should show (default: the nouns of the prompt)"
COMMANDS: arguments.Commands = {
    "trace": ("generate an image and record which word made what: image, trace, figures, report", trace_options),
    "diagnose": ("report which subjects are neglected, fused or miscoloured, and why", diagnose_options),
    "nurse": (
        "generate twice from one noise, without and with a repair method, and compare the subjects",
        nurse_options,
    ),
    "explain": ("show which region each word made, by any method, or which words made a region", explain_options),
    "compare": ("compare two traces: settings, each word's map, guidance, latents", compare_options),
    "concept": ("decompose a concept into a weighted mixture of words", concept_options),
    "open": ("summarise a trace and show where its report is", open_options),
    "verify": ("check every file of a trace against its manifest", verify_options),
    "doctor": ("check this installation; with a model, record two steps of it", doctor_options),
    "dashboard": ("start the dashboard on this machine", dashboard_options),
    "study": ("run a grid of prompts, seeds, models and methods from a file", study_options),
    "bias": ("measure which attributes people are drawn with, and whether the model amplifies its data", bias_options),
    "world": ("draw a sheet of scenes from Menagerie's training world", world_options),
}
