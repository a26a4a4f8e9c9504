"""The shell: which pages there are. Streamlit runs this file; `probe dashboard` starts it.

The pages lie in `views`, as a folder named `pages` would be served without this shell on a server's first visit.
"""

import streamlit as st

from dashboards.shared import look

st.set_page_config(page_title="probe", page_icon=look.icon(), layout="wide")
st.navigation(
    [
        st.Page("views/home.py", title="Home", icon=":material/home:", default=True),
        st.Page("views/generate.py", title="Generate & trace", icon=":material/brush:"),
        st.Page("views/nurse.py", title="Diagnose & nurse", icon=":material/healing:"),
        st.Page("views/explorer.py", title="Explorer", icon=":material/travel_explore:"),
        st.Page("views/compare.py", title="Compare", icon=":material/compare:"),
        st.Page("views/concepts.py", title="Concepts", icon=":material/category:"),
        st.Page("views/bias.py", title="Bias", icon=":material/balance:"),
        st.Page("views/guidance.py", title="Guidance", icon=":material/explore:"),
        st.Page("views/faithfulness.py", title="Faithfulness", icon=":material/straighten:"),
    ]
).run()
