"""What is chosen on a page stands in its address, so that it can be kept and passed on."""

import streamlit as st


def keep(**chosen: str) -> None:
    """Keep the address up to date; what is empty is left out."""
    for name, value in chosen.items():
        if value:
            st.query_params[name] = value
        elif name in st.query_params:
            del st.query_params[name]
