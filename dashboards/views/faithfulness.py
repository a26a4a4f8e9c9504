"""Faithfulness: which map may be believed, measured on pictures whose masks are known, and where each method fails."""

from collections.abc import Sequence
from functools import partial

import pandas as pd
import streamlit as st

from dashboards.shared import look
from dashboards.shared.downloads import Offer, offer
from probe import show
from probe.explain import METHODS, ranking

LEAD = (
    "Do maps lie where the subject is? Measured on pictures whose masks are known, for every method, on the same ones."
)
SHOWN = (ranking.OVERLAP, "precision", "pointing")
SCOPES = {
    "all": "all pictures and words",
    "scene": "rendered scenes, exact masks",
    "generated": "generated pictures, the judge's masks",
    "noun": "nouns",
    "colour": "colours",
}
CODE = """from probe import show
from probe.explain import ranking

table = ranking.measured()
print(ranking.markdown(table, {scope!r}))
show.ranking_figure(table, {shown!r}, scope={scope!r}).savefig("ranking.svg")
"""


def blank() -> None:
    """Nothing was measured yet: how to, and what it will say."""
    st.info("Not measured yet with the weights of this version.", icon=":material/straighten:")
    st.markdown("In the folder of the source code, this measures everything and puts the table here:")
    st.code(ranking.COMMAND, language=None, wrap_lines=True)
    st.markdown("It takes hours on a CPU and can be resumed. What it measures:")
    told(list(ranking.MEASURES))


def told(measures: Sequence[str]) -> None:
    """What each measure is."""
    st.markdown("\n".join(f"- **{name}**: {ranking.MEASURES.get(name, '')}" for name in measures))


def measured(table: pd.DataFrame) -> None:
    """The ranking of one scope as a figure and in numbers."""
    there = [str(scope) for scope in table["scope"].unique()]
    scope = st.selectbox("On", there, key="scope", format_func=lambda each: SCOPES.get(each, f"only {each}"))
    part = table.loc[table["scope"] == scope]
    shown = [measure for measure in SHOWN if measure in set(part["measure"])]
    draw = partial(show.ranking_figure, table, shown, scope=scope)
    look.figure(draw, f"Methods ranked by {', '.join(shown)}, with 95 % intervals", ("ranking", scope, len(table)))
    st.dataframe(numbers(part), alt="Every measure of every method, means")
    st.markdown("Means; the file has the intervals too.")
    with st.expander("What each measure is"):
        told([str(name) for name in part["measure"].unique()])
    offer(Offer("ranking", CODE.format(scope=scope, shown=shown), lambda: part, draw))


def numbers(part: pd.DataFrame) -> pd.DataFrame:
    """One row a method, best overlap first, one column a measure."""
    wide = part.pivot(index="method", columns="measure", values="mean")
    columns = [measure for measure in ranking.MEASURES if measure in wide.columns]
    return wide.reindex(ranking.ordered(part), columns=columns).round(3)


def honest() -> None:
    """What each method shows, what it cannot, and the cases in which it fails worst."""
    st.header("What each method shows, and what it cannot", anchor=False)
    for method in METHODS:
        with st.expander(method.title.capitalize()):
            st.markdown(f"It {method.shows}. It {method.cannot}.")
            examples = ranking.examples(method.name, ranking.HOME)
            if examples.is_file():
                st.markdown(
                    "Where it fails worst. The mask is outlined; the number is the overlap at the best threshold."
                )
                st.image(str(examples), alt=f"Four cases in which {method.title} misses the mask", width="stretch")


look.head("Faithfulness", LEAD)
found = ranking.measured(ranking.HOME)
if found is None:
    blank()
else:
    measured(found)
honest()
