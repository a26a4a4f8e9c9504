"""A look ahead: what a judge expects of every subject from the picture that a step predicts, before it is finished."""

from PIL import Image

from probe.axes import STEP
from probe.errors import NotRecorded
from probe.nurse.diagnosis_outside import Judge, expect
from probe.nurse.diagnosis_signals import Cast, log_odds
from probe.trace import Trace


def preview(judge: Judge, trace: Trace, cast: Cast, image: int, step: int) -> dict[str, float]:
    """The log-odds that a judge gives each subject in the picture which a step predicts; NaN where it cannot tell.

    Raises NotRecorded where the trace does not hold that picture decoded, BadInput for what is no judge.
    """
    expected = expect(judge, predicted(trace, image, step), cast)
    return {subject: log_odds(sure) for subject, sure in expected.items()}


def predicted(trace: Trace, image: int, step: int) -> Image.Image:
    """The picture that a step predicts, as the autoencoder decodes it. Raises NotRecorded.

    Fitted thumbnails will not do: their colours come from the finished picture.
    """
    held = trace.node("thumbnails")["thumbnails"] if "thumbnails" in trace.tree.children else None
    if held is None or held.attrs.get("made") != "decoded" or step not in held[STEP].values:
        raise NotRecorded(
            f"a judge that looks ahead reads the picture that step {step} predicts, and this trace does not hold it "
            f"decoded. Give diagnose probe.decode_thumbnails(trace, pipe, steps=[{step}], cells=None), where the "
            "pipeline's autoencoder takes latents one by one; or leave the judge out"
        )
    return Image.fromarray(held.isel(image=image).sel(step=step).values)
