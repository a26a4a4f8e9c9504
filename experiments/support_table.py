"""Which pipelines does probe support, and what of each was seen to hold? The table of the README.

Every tiny pipeline of the tests is tried as `probe doctor MODEL` tries a user's: two steps plain and recorded, with all
relations. Where anything does not hold for one of them, nothing is written.

    python -m experiments.support_table           # measure, and say what the README would change
    python -m experiments.support_table --write   # measure, and write probe/checkup/support.json and the README
"""

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path

from rich.progress import track

from probe.checkup import support
from probe.checkup.support import Support
from probe.checkup.trial import RELATIONS, attempt
from probe.generator.card import insert
from tests import pipelines

ROOT = Path(__file__).parent.parent
README, DATA = ROOT / "README.md", ROOT / "probe" / "checkup" / "support.json"
EXTRAS = {"lora": "LoRA", "ip_adapter": "IP-Adapter", "pag": "PAG", "fused": "fused projections"}


def measured(name: str) -> tuple[Support, tuple[str, ...]]:
    """What a tiny pipeline shows, and what of it does not hold."""
    maker = pipelines.FAMILIES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        trial = attempt(pipelines.pipeline(name), maker.call | maker.inputs(), relations=("image->text", *RELATIONS))
    extra = next((said for part, said in EXTRAS.items() if name.endswith(part)), "")
    told = (trial.sites, trial.modules, trial.branches, trial.relations)
    return Support(name, trial.family, trial.pipeline, extra, *told), trial.problems


def main(argv: Sequence[str] | None = None) -> bool:
    """Whether everything holds, and the README says what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the data and the README")
    chosen = parser.parse_args(argv)
    found = [measured(name) for name in track(list(pipelines.FAMILIES), "pipelines")]
    problems = [f"{line.name}: {said}" for line, wrong in found for said in wrong]
    if problems:
        print("nothing is written, for these do not hold:", *problems, sep="\n  ")
        return False
    lines, page = [line for line, _ in found], README.read_text(encoding="utf-8")
    said = support.markdown(lines)
    if chosen.write:
        DATA.write_text(support.dumped(lines), encoding="utf-8")
        README.write_text(insert(page, said), encoding="utf-8")
    same = chosen.write or said in page
    print(said if same else f"{said}\n\nThe README says something else: --write it")
    return same


if __name__ == "__main__":
    raise SystemExit(not main())
