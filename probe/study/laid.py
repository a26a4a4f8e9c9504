"""A job's row: what was asked, as the plan says it now, and beside that what was found when it was done.

Labels and further columns of a prompt are in no key, so a job that is done may be called otherwise by now.
"""

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from probe.study.plan import Job, identity
from probe.study.question import Study
from probe.study.rows import COLUMNS

if TYPE_CHECKING:
    from probe.study.results import Result


def told(job: Job, study: Study) -> dict[str, Any]:
    """What the plan says of a job: the columns of its prompt, and what is known before it is done."""
    return {
        **job.row.columns,
        "key": job.key,
        "prompt": job.row.prompt,
        "subjects": job.row.subjects,
        "attributes": job.row.attributes,
        "seed": job.seed,
        "model": job.model.name,
        "digest": identity(job.model),
        "method": job.method.name,
        "intervention": job.method.method,
        "settings": json.dumps(job.method.settings, sort_keys=True),
        "negative": study.negative,
        "scheduler": study.scheduler,
    }


def laid(result: "Result", job: Job, study: Study) -> "Result":
    """The result with the plan laid over its row; columns that the prompt no longer has are gone."""
    said, heads = told(job, study), prefixes(study)
    found = {name: value for name, value in result.row.items() if name in COLUMNS or name.startswith(heads)}
    return replace(result, row=said | {name: value for name, value in found.items() if name not in said})


def prefixes(study: Study) -> tuple[str, ...]:
    """What the columns of the study's explainers and scorers begin with."""
    return tuple(f"{method.name}_" for method in (*study.explainers, *study.scorers))
