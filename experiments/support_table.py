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

from rich.progress import track

import probe
from probe.checkup import support
from probe.checkup.support import Support
from probe.checkup.trial import attempt
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
        with probe.record(pipe, relations=("image->text", *RELATIONS)) as recording:
            pipelines.run(pipe, name, output_type="latent")
    extra = next((said for part, said in EXTRAS.items() if name.endswith(part)), "")
    told = (trial.sites, trial.modules, trial.branches, related(recording.trace))
    return Support(name, trial.family, trial.pipeline, extra, *told), trial.problems


def related(trace: probe.Trace) -> tuple[str, ...]:
    """The relations that a trace holds, as `probe.record` names them."""
    held = [path.removeprefix("/relations/") for path in trace.tree.groups]
    found = [kind for kind, folder in RELATIONS.items() if any(path.startswith(folder) for path in held)]
    return (*(("image->text",) if trace.attention_nodes() else ()), *found)


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
