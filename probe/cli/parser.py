"""What can be typed after `probe`. Nothing heavy is imported here: `probe --help` answers at once."""

from collections.abc import Callable

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveInt

from probe._version import __version__


def build() -> ArgumentParser:
    """The whole parser."""
    parser = ArgumentParser(prog="probe", description="See inside diffusion models.", version=__version__)
    commands = parser.add_subcommands(required=True, dest="command", metavar="COMMAND", title="commands")
    for name, (summary, describe) in COMMANDS.items():
        command = ArgumentParser(description=summary)
        commands.add_subcommand(name, command, help=summary)
        describe(command)  # after it: a command may have commands of its own
    return parser


def trace_options(parser: ArgumentParser) -> None:
    """`probe trace PROMPT`, which can also be read from a settings file."""
    _model_options(parser)
    add = parser.add_argument
    add("--seed", type=NonNegativeInt, default=0, metavar="N", help=SEED)
    add("--words", type=str, metavar="A,B", help="words to watch, with commas; left out: the content words")
    add("--explain", type=str, metavar="A,B", help="explainers to record for, with commas; most take further passes")
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


def study_options(parser: ArgumentParser) -> None:
    """`probe study VERB`."""
    _verbs(parser, STUDY_VERBS)


def study_run_options(parser: ArgumentParser) -> None:
    """`probe study run STUDY`."""
    add = parser.add_argument
    add("study", type=str, metavar="STUDY", help="the study's file (.yaml or .json)")
    add("--out", type=str, metavar="FOLDER", help="where the results go; left out: as the study says, or out/NAME")
    add("--dry-run", action="store_true", help="say how many jobs, bytes and minutes it would take; write nothing")
    add("--max-failures", type=PositiveInt, metavar="N", help="stop when so many jobs of this run have failed")
    add("--retry", action="store_true", help="do those jobs again that failed before")
    add("--device", type=str, metavar="DEVICE", help="where the models run, e.g. cuda; left out: cpu")


def study_status_options(parser: ArgumentParser) -> None:
    """`probe study status STUDY`."""
    parser.add_argument("study", type=str, metavar="STUDY", help=STUDY)
    parser.add_argument("--verify", action="store_true", help="read every file, and count damaged results as to do")


def study_table_options(parser: ArgumentParser) -> None:
    """`probe study table STUDY`."""
    parser.add_argument("study", type=str, metavar="STUDY", help=STUDY)
    parser.add_argument("--to", type=str, metavar="FILE", help="a .csv or .parquet file; left out: CSV on the screen")


def study_card_options(parser: ArgumentParser) -> None:
    """`probe study card STUDY`."""
    parser.add_argument("study", type=str, metavar="STUDY", help=STUDY)


def bias_options(parser: ArgumentParser) -> None:
    """`probe bias VERB`."""
    _verbs(parser, BIAS_VERBS)


def bias_run_options(parser: ArgumentParser) -> None:
    """`probe bias run`."""
    add = parser.add_argument
    add("--groups", type=str, metavar="A,B", help="whom to draw, with commas; left out: the professions of Menagerie")
    add("--list", type=str, metavar="FILE", help="instead, your own list (.txt, .csv, .yaml, .json), or `professions`")
    add("--template", type=str, action="append", metavar="TEXT", help="left out: 'a photo of {group}'; may be repeated")
    add("--arm", type=str, action="append", metavar="NAME=TEXT", help="another template to compare with; repeatable")
    add("--inside", action="store_true", help="record, and set what goes on inside beside what comes out")
    add("--relevancy", action="store_true", help="also what rests on each word, by gradients of each fifth step")
    add("--seeds", type=str, default="0-31", metavar="RANGE", help="one picture of each group for each, such as 0-199")
    add("--guidance", type=str, metavar="A,B", help="guidance scales with commas; left out: the pipeline's own")
    add("--steps", type=PositiveInt, metavar="N", help="denoising steps; left out: the pipeline's own number")
    _readers(parser)
    add("--out", type=str, default="out/bias", metavar="FOLDER", help="of the study; a folder of the same one goes on")


def bias_show_options(parser: ArgumentParser) -> None:
    """`probe bias show FOLDER`."""
    parser.add_argument("folder", type=str, metavar="FOLDER", help="the folder of a bias study")


def bias_balance_options(parser: ArgumentParser) -> None:
    """`probe bias balance`."""
    add = parser.add_argument
    add("--group", type=str, metavar="NAME", required=True, help="whom to draw")
    add("--towards", type=str, metavar="TEXT", help="steer the prompt towards this template, by 0 up to --last")
    add("--concept", type=str, metavar="FOLDER", help="instead, turn a word of this concept, from 1 x to --last x")
    add("--word", type=str, metavar="WORD", help="the word of the concept whose coefficient is turned")
    add("--last", type=float, metavar="X", help="how far it may be turned; left out: strength 1, or a word out (0)")
    add("--attribute", type=str, metavar="NAME", help="what is made even; left out: the classifier's first attribute")
    add("--label", type=str, metavar="NAME", help="the label whose share counts; left out: the attribute's first one")
    add("--share", type=float, metavar="X", help="the share that is wanted; left out: that of labels equally frequent")
    add("--most", type=PositiveInt, default=8, metavar="N", help="values to try, the first and the last included")
    add("--template", type=str, metavar="TEXT", help="left out: 'a photo of {group}', or the concept's own")
    add("--seeds", type=str, default="0-99", metavar="RANGE", help="one picture for each at every value")
    add("--guidance", type=str, metavar="X", help="guidance scale; left out: the pipeline's own")
    add("--steps", type=PositiveInt, metavar="N", help="denoising steps; left out: the pipeline's own number")
    add("--out", type=str, default="out/balance", metavar="FOLDER", help="of the study; the same command goes on there")
    _readers(parser)


def _readers(parser: ArgumentParser) -> None:
    """Which model draws and what reads its pictures."""
    add = parser.add_argument
    add("--model", type=str, metavar="SOURCE", help="a folder or a hub id; left out: Menagerie, which comes with probe")
    add("--classifier", type=str, metavar="FILE", help="what reads the pictures (.yaml); left out: Menagerie's judge")
    add("--error", type=str, metavar="CSV", help="labelled pictures that the classifier's error is measured on")
    add("--within", type=NonNegativeFloat, metavar="X", help="how far a share's interval may reach to either side")
    add("--device", type=str, metavar="DEVICE", help="where the model runs, e.g. cuda; left out: cpu")


def bias_error_options(parser: ArgumentParser) -> None:
    """`probe bias error`."""
    add = parser.add_argument
    add("--classifier", type=str, metavar="FILE", help="left out: Menagerie's judge")
    add("--error", type=str, metavar="CSV", help="labelled pictures: `file`, and one column an attribute")
    add("--each", type=PositiveInt, default=2, metavar="N", help="rendered scenes of each profession, gender and tone")


def _verbs(parser: ArgumentParser, table: dict[str, tuple[str, Callable[[ArgumentParser], None]]]) -> None:
    """The commands of a command."""
    verbs = parser.add_subcommands(required=True, dest="verb", metavar="VERB", title="verbs")
    for name, (summary, describe) in table.items():
        verb = ArgumentParser(description=summary)
        verbs.add_subcommand(name, verb, help=summary)
        describe(verb)


SEED = "where the noise starts"
SUBJECTS = "what the picture should show, words of the prompt with commas; left out: the nouns of its phrases"
STUDY = "the folder of the results, or the study's file"
STUDY_VERBS: dict[str, tuple[str, Callable[[ArgumentParser], None]]] = {
    "run": ("do every job that is not done yet; run it again to go on after an interruption", study_run_options),
    "status": ("say how many jobs are done, failed and left", study_status_options),
    "table": ("one row a job", study_table_options),
    "card": ("what was asked, with what, and what came out, for readers who were not there", study_card_options),
}
BIAS_VERBS: dict[str, tuple[str, Callable[[ArgumentParser], None]]] = {
    "run": ("draw people of each group, read their attributes, and set the shares against the data", bias_run_options),
    "show": ("the shares of a study that was run, from what lies in its folder", bias_show_options),
    "balance": ("turn a steering, or a word of a concept, until a group's shares are even", bias_balance_options),
    "error": ("how often a classifier reads what: its confusion matrices", bias_error_options),
}
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
