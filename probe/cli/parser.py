"""What can be typed after `probe`. Nothing heavy is imported here: `probe --help` answers at once."""

from collections.abc import Callable, Sequence

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveInt

from probe._version import __version__
from probe.cli.study_parser import bias_options, study_options


def build(arguments: Sequence[str] | None = None) -> ArgumentParser:
    """The parser; of commands that these arguments do not name only the names, as describing all takes its time."""
    parser = ArgumentParser(prog="probe", description="See inside diffusion models.", version=__version__)
    commands = parser.add_subcommands(required=True, dest="command", metavar="COMMAND", title="commands")
    for name, (summary, describe) in COMMANDS.items():
        command = ArgumentParser(description=summary)
        commands.add_subcommand(name, command, help=summary)
        if arguments is None or name in arguments:
            describe(command)  # after it: a command may have commands of its own
    return parser


def trace_options(parser: ArgumentParser) -> None:
    """`probe trace PROMPT`, which can also be read from a settings file."""
    _model_options(parser)
    add = parser.add_argument
    add("--seed", type=NonNegativeInt, default=0, metavar="N", help=SEED)
    add("--words", type=str, metavar="A,B", help="words to watch, with commas; left out: the content words")
    add("--explain", type=str, metavar="A,B", help="explainers and tables to record for; most take further passes")
    add("--patch", type=str, metavar="PROMPT", help="say which layers carry what this other prompt says otherwise")
    add("--at", type=str, metavar="STEPS", help="at which steps they take their passes; left out: every fifth")
    add("--lens", type=str, metavar="A,B", help="draw it after so many layers of the text encoder too, or after all")
    add("--concepts", type=str, metavar="A,B", help="words to look for in the picture, also such as the prompt has not")
    add("--image", type=str, metavar="FILE", help="look into this picture instead, with noise at --steps levels")
    add("--invert", action="store_true", help="follow the picture up to its noise and generate it again")
    add("--animate", action="store_true", help="each subject's map moving over the steps too, as figures/*.gif")
    _drawing_options(parser)
    _out_options(parser)


def diagnose_options(parser: ArgumentParser) -> None:
    """`probe diagnose PROMPT`."""
    _model_options(parser)
    add = parser.add_argument
    add("--seeds", type=str, default="0", metavar="RANGE", help="where the noise starts, such as 0-15 or 1,4,9")
    add("--subjects", type=str, metavar="A,B", help=SUBJECTS)
    add("--until", type=PositiveInt, metavar="N", help="predict from the first N steps; the judge is not asked")
    _drawing_options(parser)
    _out_options(parser, "left out: nothing is written")


def nurse_options(parser: ArgumentParser) -> None:
    """`probe nurse PROMPT`."""
    _model_options(parser)
    add = parser.add_argument
    add("--method", type=str, default="AttendAndExcite", metavar="NAME", help="an intervention of probe.nurse")
    add("--subjects", type=str, metavar="A,B", help=SUBJECTS)
    add("--boxes", type=str, metavar="BOXES", help="left,top,right,bottom of each: 'cat=0,0,.5,1; dog=.5,0,1,1'")
    add("--set", type=str, metavar="A=B", help="settings of the method, with semicolons, such as 'strength=0.5'")
    add("--seed", type=NonNegativeInt, default=0, metavar="N", help=SEED)
    _drawing_options(parser)
    _out_options(parser)


def concept_options(parser: ArgumentParser) -> None:
    """`probe concept PROMPT`."""
    _model_options(parser)
    add = parser.add_argument
    add("--solver", type=str, default="conceptor", metavar="NAME", help="conceptor, sparse, closed, mixture, ...")
    add("--pictures", type=PositiveInt, metavar="N", help="the model's own pictures; left out: as the solver likes")
    add("--steps", type=PositiveInt, metavar="N", help="steps of learning; left out: as the solver likes")
    add("--inference-steps", type=PositiveInt, metavar="N", help="denoising steps; left out: the pipeline's own number")
    add("--guidance", type=NonNegativeFloat, metavar="G", help="guidance scale; left out: the pipeline's own")
    add("--width", type=PositiveInt, metavar="PIXELS", help="left out: the model's own width")
    add("--height", type=PositiveInt, metavar="PIXELS", help="left out: the model's own height")
    add("--words", type=str, metavar="A,B", help="the words it may be made of; left out: all whole words")
    add("--without", type=str, metavar="A,B", help="words it may not be made of")
    add("--seed", type=NonNegativeInt, default=0, metavar="N", help=SEED)
    add("--checkpoint", type=str, metavar="FOLDER", help="where an interrupted run is kept, and goes on from")
    add("--prune", type=str, metavar="RANGE", help="seeds such as 0-3: which words the picture at each of them needs")
    add("--known", type=str, metavar="FOLDER", help="with --prune: a concept decomposed before; nothing is learned")
    add("--eyes", type=str, metavar="FOLDER", help="a CLIP that compares pictures, or menagerie: its own, as left out")
    _out_options(parser)


def _model_options(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("prompt", type=str, metavar="PROMPT", help="what to draw")
    add("--model", type=str, metavar="SOURCE", help="a folder or a hub id; left out: Menagerie, which comes with probe")


def _drawing_options(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--steps", type=PositiveInt, metavar="N", help="denoising steps; left out: the pipeline's own number")
    add("--guidance", type=NonNegativeFloat, metavar="G", help="guidance scale; left out: the pipeline's own")
    add("--negative", type=str, metavar="TEXT", help="what not to draw")
    add("--width", type=PositiveInt, metavar="PIXELS", help="left out: the model's own width")
    add("--height", type=PositiveInt, metavar="PIXELS", help="left out: the model's own height")
    add("--cut", action="store_true", help="go on although the end of a long prompt falls off")


def _out_options(parser: ArgumentParser, otherwise: str = "left out: one in out/, named after the prompt") -> None:
    add = parser.add_argument
    add("--out", type=str, metavar="FOLDER", help=f"a new folder; {otherwise}")
    add("--overwrite", action="store_true", help="replace an earlier result in that folder")
    add("--config", action="config", metavar="FILE", help="read options from a file, such as an earlier settings.yaml")


def settings(options: Namespace, describe: Callable[[ArgumentParser], None] = trace_options) -> str:
    """The options of a command as a file that `--config` reads; where the result went is no part of it."""
    parser = ArgumentParser()
    describe(parser)
    left_out = ("out", "overwrite", "config")
    given = {name: value for name, value in vars(options).items() if value is not None and name not in left_out}
    return parser.dump(Namespace(given), skip_validation=True)


def open_options(parser: ArgumentParser) -> None:
    """`probe open TRACE`."""
    parser.add_argument("trace", type=str, metavar="TRACE", help="a trace, or the folder that `probe trace` made")
    parser.add_argument("--browser", action="store_true", help="open the report in the browser")


def explain_options(parser: ArgumentParser) -> None:
    """`probe explain TRACE`."""
    add = parser.add_argument
    add("trace", type=str, metavar="TRACE", help="a trace, or the folder that `probe trace` made")
    add("--method", type=str, default="attention", metavar="A,B", help="explainers with commas, or all that it holds")
    add("--words", type=str, metavar="A,B", help="words with commas; left out: the content words")
    add("--table", type=str, metavar="A,B", help="instead, tables of numbers by word and layer, or all that it holds")
    add("--region", type=str, metavar="BOX", help="instead, the words of left,top,right,bottom or of a cell y,x")
    add("--image", type=NonNegativeInt, default=0, metavar="N", help="which picture of several")
    add("--frame", type=int, metavar="N", help="of a film, which frame of its latents; left out: the mean over all")
    _out_options(parser, "left out: nothing is written")


def compare_options(parser: ArgumentParser) -> None:
    """`probe compare A B`."""
    add = parser.add_argument
    add("first", type=str, metavar="A", help="a trace, or the folder that `probe trace` made")
    add("second", type=str, metavar="B", help="another, such as the same prompt with another model, seed or scale")
    add("--words", type=str, metavar="A,B", help="words with commas, cat=dog for two words; left out: those of both")
    _out_options(parser, "left out: nothing is written")


def verify_options(parser: ArgumentParser) -> None:
    """`probe verify PATH`."""
    parser.add_argument("path", type=str, metavar="PATH", help="a trace, or the folder that `probe trace` made")


def doctor_options(parser: ArgumentParser) -> None:
    """`probe doctor [MODEL]`."""
    parser.add_argument("model", type=str, nargs="?", metavar="MODEL", help="a folder or a hub id to try for two steps")
    parser.add_argument("--families", action="store_true", help="print the table of what was verified, as markdown")


def dashboard_options(parser: ArgumentParser) -> None:
    """`probe dashboard`."""
    parser.add_argument("--folder", type=str, default="out", metavar="FOLDER", help="where the traces are")
    parser.add_argument("--port", type=PositiveInt, default=8501, metavar="N", help="port on this machine")
    parser.add_argument("--browser", action="store_true", help="open it in the browser")


def world_options(parser: ArgumentParser) -> None:
    """`probe world`."""
    parser.add_argument("--sheet", type=str, required=True, metavar="FILE", help="the picture to write (.png)")
    parser.add_argument("--seed", type=NonNegativeInt, default=0, metavar="N", help="which world")
    parser.add_argument("--count", type=PositiveInt, default=24, metavar="N", help="how many scenes")


SEED = "where the noise starts"
SUBJECTS = "what the picture should show, words of the prompt with commas; left out: the nouns of its phrases"
COMMANDS: dict[str, tuple[str, Callable[[ArgumentParser], None]]] = {
    "trace": ("draw a prompt and record which word made what: picture, trace, figures, report", trace_options),
    "diagnose": ("say which subjects are neglected, fused or miscoloured, and why", diagnose_options),
    "nurse": ("draw a prompt twice, plain and nursed, and say what became of its subjects", nurse_options),
    "explain": ("say which region each word made, by any method, or which words made a region", explain_options),
    "compare": ("say what differs between two traces, and whose map moved how far", compare_options),
    "concept": ("take a concept apart into the words that the model mixes for it", concept_options),
    "open": ("say what a trace holds and where its report is", open_options),
    "verify": ("check every file of a trace against its manifest", verify_options),
    "doctor": ("say what this installation can do; with a model, try it for two steps", doctor_options),
    "dashboard": ("start the dashboard on this machine", dashboard_options),
    "study": ("run a question that is written down as data, and see what came out", study_options),
    "bias": ("say which attributes people are drawn with, and whether more often than in the data", bias_options),
    "world": ("draw a sheet of scenes from Menagerie's world", world_options),
}
