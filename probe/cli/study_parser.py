"""The commands of `probe study` and `probe bias`, and their arguments. Nothing heavy is imported, as in `parser`."""

from jsonargparse import ArgumentParser
from jsonargparse.typing import NonNegativeFloat, PositiveInt

from probe.cli import arguments

STUDY = "folder of the results, or the study's file"
TEMPLATE = "'a photo of {group}'"


def study_options(parser: ArgumentParser) -> None:
    """`probe study VERB`."""
    arguments.add_commands(parser, STUDY_VERBS, "verb")


def study_run_options(parser: ArgumentParser) -> None:
    """`probe study run STUDY`."""
    add = parser.add_argument
    add("study", type=str, metavar="STUDY", help="file of the study (.yaml or .json)")
    add("--out", type=str, metavar="FOLDER", help="folder for the results (default: the study's, or out/NAME)")
    add("--dry-run", action="store_true", help="estimate jobs, bytes and minutes; write nothing")
    add("--max-failures", type=PositiveInt, metavar="N", help="stop after N failed jobs of this run")
    add("--retry", action="store_true", help="run jobs again that failed before")
    arguments.add_device(parser, "the models")


def study_status_options(parser: ArgumentParser) -> None:
    """`probe study status STUDY`."""
    parser.add_argument("study", type=str, metavar="STUDY", help=STUDY)
    parser.add_argument("--verify", action="store_true", help="read every file; damaged results count as not done")


def study_table_options(parser: ArgumentParser) -> None:
    """`probe study table STUDY`."""
    parser.add_argument("study", type=str, metavar="STUDY", help=STUDY)
    parser.add_argument("--to", type=str, metavar="FILE", help=".csv or .parquet file to write (default: print CSV)")


def study_card_options(parser: ArgumentParser) -> None:
    """`probe study card STUDY`."""
    parser.add_argument("study", type=str, metavar="STUDY", help=STUDY)


def bias_options(parser: ArgumentParser) -> None:
    """`probe bias VERB`."""
    arguments.add_commands(parser, BIAS_VERBS, "verb")


def bias_run_options(parser: ArgumentParser) -> None:
    """`probe bias run`."""
    add = parser.add_argument
    add("--groups", type=str, metavar="A,B", help="groups to draw (default: the professions of Menagerie's world)")
    add("--list", type=str, metavar="FILE", help="read the groups from .txt, .csv, .yaml or .json, or `professions`")
    template = f"prompt template, repeatable (default: {TEMPLATE})"
    add("--template", type=str, action="append", metavar="TEXT", help=template)
    add("--arm", type=str, action="append", metavar="NAME=TEXT", help="another template to compare with, repeatable")
    add("--inside", action="store_true", help="also record attention and guidance, by perceived label")
    add("--relevancy", action="store_true", help="also record each word's relevancy, at every fifth step")
    seeds = "one image of each group and template for every seed (default: 0-31)"
    add("--seeds", type=str, default="0-31", metavar="RANGE", help=seeds)
    add("--guidance", type=str, metavar="A,B", help="guidance scales to compare (default: the pipeline's)")
    arguments.add_steps(parser)
    _add_readers(parser)
    _add_folder(parser, "out/bias")


def bias_show_options(parser: ArgumentParser) -> None:
    """`probe bias show FOLDER`."""
    parser.add_argument("folder", type=str, metavar="FOLDER", help="folder of a bias study")


def bias_balance_options(parser: ArgumentParser) -> None:
    """`probe bias balance`."""
    add = parser.add_argument
    add("--group", type=str, metavar="NAME", required=True, help="group to draw")
    add("--towards", type=str, metavar="TEXT", help="vary the strength of steering towards this template")
    add("--concept", type=str, metavar="FOLDER", help="or vary the coefficient of a word of this saved concept")
    add("--word", type=str, metavar="WORD", help="with --concept: the word whose coefficient is varied")
    add("--last", type=float, metavar="X", help="end of the range (default: strength 1, or 0 times the coefficient)")
    add("--attribute", type=str, metavar="NAME", help="attribute to balance (default: the classifier's first)")
    add("--label", type=str, metavar="NAME", help="label whose share is measured (default: the attribute's first)")
    add("--share", type=float, metavar="X", help="target share (default: all labels equally frequent)")
    most = "how many values to try, both ends of the range included (default: 8)"
    add("--most", type=PositiveInt, default=8, metavar="N", help=most)
    add("--template", type=str, metavar="TEXT", help=f"prompt template (default: {TEMPLATE}, or the concept's own)")
    add("--seeds", type=str, default="0-99", metavar="RANGE", help="seeds drawn at every value (default: 0-99)")
    arguments.add_guidance(parser)
    arguments.add_steps(parser)
    _add_readers(parser)
    _add_folder(parser, "out/balance")


def bias_error_options(parser: ArgumentParser) -> None:
    """`probe bias error`."""
    _add_classifier(parser)
    each = "without --error: rendered scenes of each profession, gender and tone (default: 2)"
    parser.add_argument("--each", type=PositiveInt, default=2, metavar="N", help=each)


def _add_folder(parser: ArgumentParser, default: str) -> None:
    """Where a study that can be resumed goes."""
    told = f"folder of the study, resumed if it exists (default: {default})"
    parser.add_argument("--out", type=str, default=default, metavar="FOLDER", help=told)


def _add_readers(parser: ArgumentParser) -> None:
    """Which model draws, and what reads its images."""
    arguments.add_model(parser)
    _add_classifier(parser)
    within = "refuse too few images for intervals of a share +- X"
    parser.add_argument("--within", type=NonNegativeFloat, metavar="X", help=within)


def _add_classifier(parser: ArgumentParser) -> None:
    """What reads the images, and how often it is wrong."""
    add = parser.add_argument
    add("--classifier", type=str, metavar="FILE", help="classifier that reads the images (.yaml; default: Menagerie's)")
    add("--error", type=str, metavar="CSV", help="labelled images to measure its error on: `file` and attributes")


STUDY_VERBS: arguments.Commands = {
    "run": ("run every job that is not done yet; run it again to resume", study_run_options),
    "status": ("count the jobs that are done, failed and left", study_status_options),
    "table": ("print or write the results, one row per job", study_table_options),
    "card": ("print a summary in Markdown: what was asked, with what, what came out", study_card_options),
}
BIAS_VERBS: arguments.Commands = {
    "run": ("draw people of each group, classify them, and compare the shares with the data", bias_run_options),
    "show": ("print the shares of a study that was run before", bias_show_options),
    "balance": ("find the steering strength or word coefficient at which shares are even", bias_balance_options),
    "error": ("measure a classifier's confusion matrices", bias_error_options),
}
