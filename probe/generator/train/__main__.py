"""Train Menagerie, all of it or one stage: `python -m probe.generator.train FOLDER [--stage denoiser] [--resume]`."""

import argparse
from pathlib import Path

import torch

from probe.generator.train.stages import STAGES, Plan


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m probe.generator.train", description=__doc__)
    parser.add_argument("folder", type=Path, help="where checkpoints are kept; keep it outside the repository")
    parser.add_argument("--stage", choices=list(STAGES), action="append", help="one or more stages (default: all)")
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoints in the folder")
    parser.add_argument("--smoke", action="store_true", help="a few steps of every stage, to see that they run")
    parser.add_argument("--samples", type=int, help="how many samples in all, instead of the recipe's number")
    parser.add_argument("--batch", type=int, help="batch size, instead of the recipe's")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args(argv)
    given.folder.mkdir(parents=True, exist_ok=True)
    plan = Plan(given.folder, given.device, given.resume, given.smoke, given.samples, given.batch)
    for stage in given.stage or list(STAGES):
        STAGES[stage](plan)


if __name__ == "__main__":
    main()
