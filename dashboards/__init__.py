"""The dashboard: Streamlit pages over the public verbs of `probe`. Start it with `probe dashboard`."""
