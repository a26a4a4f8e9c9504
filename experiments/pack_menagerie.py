"""Pack trained checkpoints into the package: `python experiments/pack_menagerie.py FOLDER`."""

import sys
from pathlib import Path

from probe.generator.train.pack import pack
from probe.generator.train.stages import Plan
from probe.generator.weights import MENAGERIE


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("give the folder of the checkpoints: python experiments/pack_menagerie.py FOLDER")
    pack(Plan(Path(sys.argv[1])))
    files = [path for path in MENAGERIE.rglob("*") if path.is_file()]
    print(f"{len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.1f} MB in {MENAGERIE.name}")


if __name__ == "__main__":
    main()
