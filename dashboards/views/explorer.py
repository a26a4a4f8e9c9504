"""Explorer: saved traces, and one of them from every side. It loads no model."""

import streamlit as st

from dashboards.shared import gallery, inspect, look
from dashboards.shared.opened import try_open
from probe.errors import ProbeError

name = st.query_params.get("trace")
held = try_open(name) if name else None
if held is None or isinstance(held, ProbeError):
    look.head(
        "Explorer", "Your saved traces. Open one to see which word made which region; no model is loaded for that."
    )
    if held is not None:
        look.trouble("The trace in the address cannot be opened.", held)
    gallery.gallery()
else:
    inspect.inspect(held)
