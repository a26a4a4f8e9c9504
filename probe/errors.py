"""The errors that `probe` raises. Each message says what was found, what was expected and what to do.

ProbeError
├── BadInput (ValueError)
│   ├── BadPrompt           empty, too long, or not text
│   ├── NoSuchWord          a word that the prompt does not hold
│   ├── NoMatch             a selection (sites, steps, heads) that selects nothing
│   └── OverBudget          a recording or a file larger than allowed
├── BadModel (ValueError)
│   ├── NotAPipeline        a folder, id or object that is no pipeline
│   ├── UnsafeWeights       pickled weights or remote code
│   └── UnknownFamily       a denoiser whose attention cannot be described
├── RecordingError (RuntimeError)
│   ├── MissingReadings     a selected site gave nothing at a step
│   ├── Diverged            an intervention's numbers ran away
│   ├── AlreadyRecording    the weights are leased to another recording
│   └── NotRecorded         the trace lacks what was asked for
├── DamagedFile (ValueError)   a trace or weights that do not match their manifest
├── OutputError (OSError)      an output that exists already or cannot be written
└── ProbeWarning (UserWarning) not wrong, but not what was asked for either: truncated words, an inferred layout
"""

import typing


class ProbeError(Exception):
    """Base of every error of this package."""


class BadInput(ProbeError, ValueError):
    """Something that the caller gave cannot be used."""


class BadPrompt(BadInput):
    """The prompt is empty, too long, or not text."""


class NoSuchWord(BadInput):
    """The word is not in the prompt."""


class NoMatch(BadInput):
    """A selection selects nothing."""


class OverBudget(BadInput):
    """The result would be larger than the budget allows."""


class BadModel(ProbeError, ValueError):
    """The model cannot be used."""


class NotAPipeline(BadModel):
    """The source is no diffusers text-to-image pipeline."""


class UnsafeWeights(BadModel):
    """The source holds pickled weights or code of its own."""


class UnknownFamily(BadModel):
    """The denoiser's attention cannot be described."""


class RecordingError(ProbeError, RuntimeError):
    """Something went wrong while recording."""


class MissingReadings(RecordingError):
    """A selected site gave no reading at a step."""


class Diverged(RecordingError):
    """An intervention's loss or gradient is no number any more. `trace` holds the steps before, if there were any."""

    trace: typing.Any = None


class AlreadyRecording(RecordingError):
    """Another recording holds these weights."""


class NotRecorded(RecordingError):
    """The trace does not hold what was asked for."""


class DamagedFile(ProbeError, ValueError):
    """A file does not match its manifest, or is missing."""


class OutputError(ProbeError, OSError):
    """The output exists already or cannot be written."""


class ProbeWarning(ProbeError, UserWarning):
    """What was done is not quite what was asked for: words were cut from the prompt, or a layout was inferred."""
