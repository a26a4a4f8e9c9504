"""The fields that pages ask for alike; what was typed stays for the session."""

import streamlit as st


def prompt(example: str) -> str:
    """What to draw."""
    return st.text_area(
        "Prompt", example, height=80, key="prompt", persist_state="session", help="What the picture should show."
    )


def numbers() -> tuple[int, int | None, float | None]:
    """Seed, steps and guidance; None is the model's own."""
    first, second, third = st.columns(3)
    seed = first.number_input(
        "Seed",
        0,
        2**53 - 1,
        0,
        key="seed",
        persist_state="session",
        help="Seed of the initial noise: same seed, same picture.",
    )
    steps = second.number_input(
        "Steps", 1, 500, None, key="steps", persist_state="session", placeholder="model's own", help="Denoising steps."
    )
    guidance = third.number_input(
        "Guidance",
        0.0,
        50.0,
        None,
        0.5,
        key="guidance",
        persist_state="session",
        placeholder="model's own",
        help="Guidance scale: how strongly the prompt is followed.",
    )
    return int(seed or 0), steps, guidance


def source() -> str | None:
    """The folder of another model; None is Menagerie."""
    with st.expander("Another model"):
        given = st.text_input(
            "Folder of a diffusers pipeline",
            key="source",
            persist_state="session",
            placeholder="Menagerie, which comes with probe",
            help="A folder on this machine that save_pretrained wrote, with safetensors. The button loads it.",
        )
    return given.strip() or None


def button(label: str, busy: bool) -> bool:
    """The form's button; whether it was pressed."""
    kind = "secondary" if st.context.theme.type == "dark" else "primary"  # white text would vanish on pink
    return st.form_submit_button(label, type=kind, disabled=busy)


def listed(text: str) -> tuple[str, ...] | None:
    """The words of a field with commas; None if it is empty."""
    return tuple(word.strip() for word in text.split(",") if word.strip()) or None
