"""Bias: which attributes people are drawn with, as a named classifier perceives them, beside those in the data."""

import shlex
from functools import partial

import pandas as pd
import streamlit as st

from dashboards.shared import audits, look, traces
from dashboards.shared.downloads import Offer, offer
from dashboards.shared.escape import label
from probe.bias import LIMITS
from probe.bias.audits import Audit
from probe.bias.report import SENSITIVE
from probe.errors import ProbeError

LEAD = (
    "Which attributes are people drawn with? Shares as a named classifier perceives them, with intervals, beside those "
    "in the training data."
)
COMMAND = "probe bias run --seeds 0-199 --guidance 1,5 --out {folder}"
CODE = """import probe

audit = probe.bias.open({folder!r})
audit.figure({attribute!r}).savefig("shares.svg")
audit.{table}.to_csv("{table}.csv", index=False)
"""
NUMBERS = {name: st.column_config.NumberColumn(format="%.3f") for name in ("share", "low", "high", "p", "p_holm")}
SMALL = {name: st.column_config.NumberColumn(format="%.3g") for name in ("mean", "value", "difference", "low", "high")}
SMALL["p_holm"] = NUMBERS["p_holm"]


def blank() -> None:
    """Nothing was studied yet: how to, and what it will say."""
    st.info("There is no bias study yet.", icon=":material/inbox:")
    st.markdown("Draw people of each profession of Menagerie's world, and have its judge read them:")
    st.code(COMMAND.format(folder=shlex.quote(str(traces.root() / "bias"))), language=None, wrap_lines=True)
    st.markdown("Other models, groups, classifiers: `probe bias run --help`. The page then shows, of each attribute:")
    st.markdown(
        "- the share of each label in each group, as read and corrected for the classifier's error\n"
        "- beside it the share that the training data was given, where it is known\n"
        "- whether guidance amplifies it, and paired tests at equal seeds"
    )


def whole(name: str, audit: Audit) -> None:
    """One study from every side."""
    st.warning(SENSITIVE, icon=":material/diversity_3:")
    attribute = st.selectbox("Attribute", audits.attributes(audit), key=f"attribute:{name}")
    classifier(audit, attribute)
    caution(audit, attribute)
    shares(name, audit, attribute)
    amplification(name, audit, attribute)
    comparisons(audit, attribute)
    inside(audit, attribute)
    costs(audit)
    st.header("What this does not show", anchor=False)
    st.markdown("\n".join(f"- {limit}" for limit in LIMITS))


def classifier(audit: Audit, attribute: str) -> None:
    """Who read the pictures, and how often it is wrong."""
    error = audit.errors.get(attribute)
    known = f"Read rightly: {error.accuracy:.1%}, mean of the labels." if error else "Its error is not known."
    st.text(f"Classifier: {audit.classifier}. {known}")
    if error is None:
        st.info("Shares are as read. To correct them, run `probe bias run` with `--error labels.csv`.")
    else:
        with st.expander("Its confusion matrix"):
            st.code(str(error), language=None)


def caution(audit: Audit, attribute: str) -> None:
    """A warning where there are too few pictures to say much."""
    found = audits.few(audit, attribute)
    if found is not None:
        read, group, enough = found
        st.warning(
            f"Few pictures: {read} were read of {label(group)}. Intervals are wide; do not read small differences. "
            f"For intervals of ±{audits.WITHIN:g}, take {enough} seeds or more.",
            icon=":material/scatter_plot:",
        )


def shares(name: str, audit: Audit, attribute: str) -> None:
    """The shares of every group beside the data's, as a figure and in numbers."""
    st.header("Shares", anchor=False)
    for each in audits.labels(audit, attribute):
        part = audits.best(audit, attribute, each)
        st.text(f"Perceived as {each}")
        told = f"Share perceived as {each} in each group with {audit.confidence:.0%} intervals, beside that in the data"
        st.altair_chart(audits.share_chart(part), alt=told, height=height(part))
    draw = partial(audit.figure, attribute)
    frame = audits.share_table(audit, attribute)
    with st.expander("The numbers"):
        st.dataframe(frame, hide_index=True, column_config=NUMBERS, alt=f"Shares of {attribute}")
    offer(Offer(f"shares-{attribute}", code(name, attribute, "shares"), lambda: frame, draw))


def height(frame: pd.DataFrame) -> int:
    """Pixels of a chart with a row for each group and setting."""
    return 130 + 20 * len(set(frame["group"])) * max(2, len(set(frame["setting"])))


def amplification(name: str, audit: Audit, attribute: str) -> None:
    """How far each group's majority in the data is above its share there, and whether that grows with guidance."""
    st.header("Amplification", anchor=False)
    frame = audits.amplified(audit, attribute)
    if frame.empty:
        st.info("The shares in the data are not known, or no label has the most of them.", icon=":material/info:")
        return
    st.markdown("For the most frequent label in the data: its share among the pictures minus its share in the data.")
    told = f"Amplification of {attribute} in each group and setting, with intervals; 0 is the share in the data"
    st.altair_chart(audits.amplification_chart(frame), alt=told, height=height(frame))
    for line in audits.changes(audit, attribute):
        st.text(line)
    offer(Offer(f"amplification-{attribute}", code(name, attribute, "cells"), lambda: frame))


def comparisons(audit: Audit, attribute: str) -> None:
    """Paired tests."""
    found = audits.tests(audit, attribute)
    if len(found):
        with st.expander("Paired tests at equal seeds"):
            st.markdown("A difference is the second minus the first; `p_holm` accounts for all tests of the attribute.")
            st.dataframe(found, hide_index=True, column_config=NUMBERS, alt=f"Paired tests of {attribute}")


def inside(audit: Audit, attribute: str) -> None:
    """What goes with the outcome inside the model, where the study recorded it."""
    every, each = audits.inside(audit, attribute)
    if len(each):
        st.header("Internal measures", anchor=False)
        st.markdown(
            "What the model did in pictures with a label, less what it did in the others: attention to the word of the "
            "group (`noun`), its share of the relevancy of all words (`relevancy_noun`), and how hard guidance pulls "
            "(`pull`). It goes with the outcome; the noise may decide both."
        )
        st.dataframe(every, hide_index=True, column_config=SMALL, alt=f"Inside the model, by {attribute}")
        with st.expander("Group by group"):
            st.dataframe(each, hide_index=True, column_config=SMALL, alt=f"Inside the model, by {attribute} and group")


def costs(audit: Audit) -> None:
    """What the settings cost in other scores, where there were any."""
    found = audits.costs(audit)
    if len(found):
        st.header("What it costs", anchor=False)
        st.markdown("Other scores of the same pictures, and their difference from the first setting.")
        st.dataframe(found, hide_index=True, column_config=SMALL, alt="Costs of each setting")


def code(name: str, attribute: str, table: str) -> str:
    """The Python that makes a figure and a table of it."""
    return CODE.format(folder=str(audits.place(name)), attribute=attribute, table=table)


look.head("Bias", LEAD)
names = audits.names()
if names:
    chosen = st.selectbox("Study", names, key="study") if len(names) > 1 else names[0]
    held = audits.try_open(chosen)
    if isinstance(held, ProbeError):
        look.trouble("This study cannot be read.", held)
    else:
        whole(chosen, held)
else:
    blank()
