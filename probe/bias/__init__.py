"""Bias: which attributes people are drawn with, by a named classifier corrected for its error, compared with the data.

    study = probe.bias.study(["doctor", "pilot"], seeds="0-199", guidance=[1, 5])   # a `probe.Study` like any other
    study.run()                                                                     # resumes where it was interrupted
    audit = probe.bias.audit(study)
    audit.save(study.path)

groups.py (whom to draw) -> question.py (the study) -> classifiers.py (labels of an image) -> error.py (how often they
are wrong) -> audits.py (the tidy tables), which rests on shares.py and paired.py (statistics) and training_shares.py
(the shares in Menagerie's training data) -> even.py (the search for even shares). All attributes are **perceived**: a
classifier's prediction from an image, nobody's identity.

Besides the files of every study (`probe/study/results.py`: resolved.json, jobs/, table.parquet), the folder then holds

errors.json          the confusion matrix of the classifier, by attribute: labels, counts [true][read], where it is from
shares.parquet       one row a setting, attribute, group and label; its columns: `probe.bias.audits.SHARES`
cells.parquet        one row a setting, attribute and group: evenness, amplification; `CELLS`
overall.parquet      one row a setting and attribute: mean amplification, its change from the first setting; `OVERALL`
comparisons.parquet  one row a pair of settings or of groups at equal seeds; `COMPARISONS`
inside.parquet       one row a setting, attribute, group, label and measure, if the study recorded; `INSIDE`
costs.parquet        one row a setting and score of other scorers than the classifier; `COSTS`
balance.json         if `balance` was run: every value it tried
summary.json         all of the above as JSON, with the classifier, the confidence and what it does not show

A setting is a model, method, number of steps and guidance. `probe.bias.open(folder)` reads an audit back, without
pictures, model or torch; `probe.bias.tidy(rows, known)` is pure: from a study's rows to the tables.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probe.bias.audits import LIMITS as LIMITS
    from probe.bias.audits import TABLES as TABLES
    from probe.bias.audits import Audit as Audit
    from probe.bias.audits import audit as audit
    from probe.bias.audits import open_audit as open
    from probe.bias.audits import tidy as tidy
    from probe.bias.classifiers import Classifier as Classifier
    from probe.bias.classifiers import ImageClassifier as ImageClassifier
    from probe.bias.classifiers import MenagerieJudge as MenagerieJudge
    from probe.bias.classifiers import ZeroShot as ZeroShot
    from probe.bias.classifiers import read_classifier as read_classifier
    from probe.bias.confusion import Confusion as Confusion
    from probe.bias.error import labelled as labelled
    from probe.bias.error import measure as measure
    from probe.bias.error import measure_rendered as measure_rendered
    from probe.bias.error import rendered as rendered
    from probe.bias.even import Aim as Aim
    from probe.bias.even import Balance as Balance
    from probe.bias.even import balance as balance
    from probe.bias.groups import PROFESSIONS as PROFESSIONS
    from probe.bias.groups import TEMPLATE as TEMPLATE
    from probe.bias.groups import Group as Group
    from probe.bias.groups import read_groups as read_groups
    from probe.bias.knob import Knob as Knob
    from probe.bias.knob import coefficient as coefficient
    from probe.bias.knob import strength as strength
    from probe.bias.question import study as study
    from probe.bias.training_shares import PLANTED as PLANTED
    from probe.bias.training_shares import planted as planted
    from probe.bias.words import balanced as balanced
    from probe.bias.words import beside as beside
    from probe.bias.words import held as held

__all__ = [
    "LIMITS",
    "PLANTED",
    "PROFESSIONS",
    "TABLES",
    "TEMPLATE",
    "Aim",
    "Audit",
    "Balance",
    "Classifier",
    "Confusion",
    "Group",
    "ImageClassifier",
    "Knob",
    "MenagerieJudge",
    "ZeroShot",
    "audit",
    "balance",
    "balanced",
    "beside",
    "coefficient",
    "held",
    "labelled",
    "measure",
    "measure_rendered",
    "open",
    "planted",
    "read_classifier",
    "read_groups",
    "rendered",
    "strength",
    "study",
    "tidy",
]

_HOMES = {
    "LIMITS": "audits",
    "PLANTED": "training_shares",
    "PROFESSIONS": "groups",
    "TABLES": "audits",
    "TEMPLATE": "groups",
    "Aim": "even",
    "Audit": "audits",
    "Balance": "even",
    "Classifier": "classifiers",
    "Confusion": "confusion",
    "Group": "groups",
    "ImageClassifier": "classifiers",
    "Knob": "knob",
    "MenagerieJudge": "classifiers",
    "ZeroShot": "classifiers",
    "audit": "audits",
    "balance": "even",
    "balanced": "words",
    "beside": "words",
    "coefficient": "knob",
    "held": "words",
    "labelled": "error",
    "measure": "error",
    "measure_rendered": "error",
    "open": "audits:open_audit",
    "planted": "training_shares",
    "read_classifier": "classifiers",
    "read_groups": "groups",
    "rendered": "error",
    "strength": "knob",
    "study": "question",
    "tidy": "audits",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'probe.bias' has no attribute {name!r}; it has {', '.join(__all__)}")
    home, _, other_name = _HOMES[name].partition(":")
    return getattr(import_module(f"probe.bias.{home}"), other_name or name)
