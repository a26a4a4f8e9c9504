"""Studies: a question as data, its jobs, where they run, and what came out.

question.py (the data) -> resolve.py (nothing left open) -> plan.py (jobs and their keys, pure) -> engine.py (where they
run) -> job.py (how one is done) -> results.py (what is kept). A new executor inherits from `Executor` and needs nothing
of a study but `Work`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probe.study.engine import Executor as Executor
    from probe.study.engine import Local as Local
    from probe.study.job import Work as Work
    from probe.study.plan import Job as Job
    from probe.study.question import Method as Method
    from probe.study.question import Model as Model
    from probe.study.question import Study as Study
    from probe.study.results import Status as Status
    from probe.study.scorers import Scorer as Scorer
    from probe.study.scorers import Shot as Shot

__all__ = ["Executor", "Job", "Local", "Method", "Model", "Scorer", "Shot", "Status", "Study", "Work"]

_HOMES = {
    "Executor": "engine",
    "Job": "plan",
    "Local": "engine",
    "Method": "question",
    "Model": "question",
    "Scorer": "scorers",
    "Shot": "scorers",
    "Status": "results",
    "Study": "question",
    "Work": "job",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'probe.study' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"probe.study.{_HOMES[name]}"), name)
