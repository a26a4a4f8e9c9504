"""Which pipelines does probe support, and what of each was seen to hold? The table of the README.

Every tiny pipeline of the tests is tried as `probe doctor MODEL` tries a user's, two steps plain and recorded; another
recording shows which relations it has. Where anything does not hold for one of them, nothing is written.

    python -m experiments.support_table           # measure, and say what the README would change
    python -m experiments.support_table --write   # measure, and write probe/checkup/support.json and the README
"""

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.progress import track

import probe
from probe.checkup import support
from probe.checkup.support import Support
from probe.checkup.trial import attempt
from probe.errors import NoMatch
from probe.generator.card import insert
from tests import pipelines

ROOT = Path(__file__).parent.parent
README, DATA = ROOT / "README.md", ROOT / "probe" / "checkup" / "support.json"
RELATIONS = {
    "text->image": "text_to_image",
    "image->image": "image_to_image",
    "text->text": "text_to_text",
    "frame->frame": "frame_to_frame",
}
EXTRAS = {"lora": "LoRA", "ip_adapter": "IP-Adapter", "pag": "PAG", "fused": "fused projections"}


def measured(name: str) -> tuple[Support, tuple[str, ...]]:
    """What a tiny pipeline shows, and what of it does not hold."""
    maker, pipe = pipelines.FAMILIES[name], pipelines.pipeline(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        trial = attempt(pipe, maker.call | maker.inputs())
        held = [kind for kind in ("image->text", *RELATIONS) if there(pipe, name, kind)]
    extra = next((said for part, said in EXTRAS.items() if name.endswith(part)), "")
    told = (trial.sites, trial.modules, trial.branches, tuple(held))
    return Support(name, trial.family, trial.pipeline, extra, *told), trial.problems


def there(pipe: Any, name: str, relation: str) -> bool:
    """Whether a recording holds a relation; one that the model has not is refused in the first pass."""
    try:
        with probe.record(pipe, relations=(relation,)) as recording:
            pipelines.run(pipe, name, output_type="latent")
    except NoMatch:
        return False
    groups = recording.trace.tree.groups
    return any(path.startswith(f"/relations/{RELATIONS.get(relation)}") or path == "/attention" for path in groups)


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
