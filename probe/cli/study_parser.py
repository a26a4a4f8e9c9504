"""What can be typed after `probe study` and `probe bias`. Nothing heavy is imported here, as in `parser`."""

from collections.abc import Callable

from jsonargparse import ArgumentParser
from jsonargparse.typing import NonNegativeFloat, PositiveInt


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
