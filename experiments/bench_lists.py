"""How long do long lists take? Ten thousand saved traces, jobs and results, and the longest prompt.

Processor time, so that whatever else runs does not count; the best of three. Run it from the root of the repository.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from dashboards.shared import traces
from probe.study import Study
from probe.study.plan import plan
from probe.study.results import Result, place, sealed
from probe.words.segment import segment
from probe.words.table import LONGEST

MANY = 10_000
ROW = {"status": "done", "reason": None, "prompt": "a cat", "seed": 1, "seconds": 2.0, "score": 0.5}


def laid(folder: Path) -> Study:
    """A folder of `MANY` saved traces, and of a study that is done."""
    for i in range(MANY):
        (folder / "traces" / f"trace-{i:06}").mkdir(parents=True)
        (folder / "traces" / f"trace-{i:06}" / "manifest.json").write_text("{}")
    study = Study(prompts=["a cat"], seeds=f"0-{MANY - 1}", folder=str(folder / "study"), keep=[])
    (folder / "study").mkdir()
    (folder / "study" / "resolved.json").write_text(study.model_dump_json(exclude={"folder"}))
    for job in plan(study):
        home = place(folder / "study", job.key)
        home.mkdir(parents=True)
        (home / "manifest.json").write_bytes(sealed(Result({"key": job.key, **ROW}, 0, {})))
    return study


def seconds(task: Callable[[], object]) -> float:
    """Processor seconds, the best of three."""
    took = []
    for _ in range(3):
        began = time.process_time()
        task()
        took.append(time.process_time() - began)
    return min(took)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        study = laid(Path(folder))
        os.environ[traces.VARIABLE] = str(Path(folder) / "traces")
        tasks: dict[str, tuple[Callable[[], object], float]] = {
            f"the dashboard lists {MANY:,} traces": (traces.names, 2),
            f"a study of {MANY:,} jobs is planned": (lambda: plan(Study.open(study.path)), 2),
            f"its {MANY:,} results are read": (study.table, 10),
            "the longest prompt is split into words": (lambda: segment("a-" * (LONGEST // 2)), 1),
        }
        for name, (task, bar) in tasks.items():
            print(f"{name:42} {seconds(task):6.2f} s  (bar {bar} s)")


if __name__ == "__main__":
    main()
