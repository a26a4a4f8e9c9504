"""Reading a prompt with a pipeline's own tokenizers, cut, padded and wrapped as the pipeline does it."""

from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

from probe.errors import BadInput, BadModel
from probe.words.model import Token, Word
from probe.words.prompt import Prompt
from probe.words.segment import Span
from probe.words.slow import spell
from probe.words.table import Encoding, check_prompt, check_text, cut, join, lay


class Options(TypedDict, total=False):
    """How a pipeline reads, by encoder.

    lengths    tokens that the denoiser sees; the sequence is cut and padded to it. Without one: neither cut nor padded
    unpadded   encoders whose sequence is cut to its length but not padded to it
    templates  text around the prompt, with "{}" where the prompt goes
    drop       tokens that the pipeline takes away after encoding: how many at the front, or a range of positions
    """

    lengths: Mapping[str, int] | None
    unpadded: Collection[str]
    templates: Mapping[str, str] | None
    drop: Mapping[str, int | range] | None


@dataclass(frozen=True)
class _Layout:
    """How one encoder reads."""

    length: int | None
    padded: bool
    template: str
    drop: range


def read_prompt(prompt: str, tokenizers: Mapping[str, Any], **options: Unpack[Options]) -> Prompt:
    """The words and tokens of a prompt, read with tokenizers (or processors that hold one), by encoder name.

    Raises BadPrompt for a prompt that is blank or no text, BadModel for what is no tokenizer of transformers.
    """
    return read_negative(check_prompt(prompt), tokenizers, **options)


def read_negative(prompt: str, tokenizers: Mapping[str, Any], **options: Unpack[Options]) -> Prompt:
    """As `read_prompt`, for a prompt that may be blank: it has no words then, but special tokens."""
    text = check_text(prompt)
    layouts = {name: _layout(name, options) for name in tokenizers}
    own = {name: _known(name, tokenizer) for name, tokenizer in tokenizers.items()}
    whole = {name: _tokens(text, name, own[name], layouts[name], whole=True) for name in own}
    kept = {name: _tokens(text, name, own[name], layouts[name], whole=False) for name in own}
    spans = cut(text, whole)
    words, tokens = join(text, spans, kept)
    lengths = {name: len(row) for name, row in kept.items()}
    fallen = {name: _fallen(name, join(text, spans, whole)[0], words) for name in own}
    return Prompt(text=text, words=words, tokens=tokens, lengths=lengths, fallen=fallen)


def _layout(encoder: str, options: Options) -> _Layout:
    template = (options.get("templates") or {}).get(encoder, "{}")
    if template.count("{}") != 1:
        raise BadInput(f"the template of {encoder} holds {template.count('{}')} places for the prompt; write {{}} once")
    drop = (options.get("drop") or {}).get(encoder, 0)
    return _Layout(
        length=(options.get("lengths") or {}).get(encoder),
        padded=encoder not in options.get("unpadded", ()),
        template=template,
        drop=range(drop) if isinstance(drop, int) else drop,
    )


def held(tokenizer: Any) -> Any:
    """The tokenizer itself, or the one that a processor holds."""
    own = hasattr(tokenizer, "convert_ids_to_tokens")  # ChatGLM's holds a tokenizer of another kind
    return tokenizer if own else getattr(tokenizer, "tokenizer", tokenizer)


def _known(encoder: str, tokenizer: Any) -> Any:
    """As `held`. Raises BadModel for what is no tokenizer of transformers."""
    inner = held(tokenizer)
    if not hasattr(inner, "convert_ids_to_tokens"):
        raise BadModel(
            f"the tokenizer of {encoder} is a {type(inner).__name__}, which is none of transformers, so the characters "
            "that a token covers are not known; give the pipe one, AutoTokenizer.from_pretrained(folder)"
        )
    return inner


def _tokens(prompt: str, encoder: str, tokenizer: Any, layout: _Layout, *, whole: bool) -> tuple[Token, ...]:
    """The tokens of one encoder: all that the prompt has, or those that the denoiser sees."""
    start = layout.template.index("{}")
    text = layout.template.replace("{}", prompt)
    length = None if whole or layout.length is None else layout.length + len(layout.drop)
    encoding = _encode(tokenizer, text, length, padded=layout.padded)
    front = 0 if text.strip() else _front(tokenizer)
    row = lay(text, encoder, encoding, Span(start, start + len(prompt)), front=front)
    seen = row if whole else [token for token in row if token.index not in layout.drop]
    return tuple(token.model_copy(update={"index": index}) for index, token in enumerate(seen))


def _front(tokenizer: Any) -> int:
    """How many special tokens stand before a text."""
    offsets = _encode(tokenizer, "a", None, padded=False).offsets
    return next(index for index, (start, end) in enumerate(offsets) if start < end)


def _encode(tokenizer: Any, text: str, length: int | None, *, padded: bool) -> Encoding:
    """One text by one tokenizer. A text that begins with the start token, as chat templates do, gets no second one."""
    bounds: dict[str, Any] = {} if length is None else {"max_length": length, "truncation": True}
    if padded and length is not None:
        bounds["padding"] = "max_length"
    bounds["add_special_tokens"] = not (tokenizer.bos_token and text.startswith(tokenizer.bos_token))
    if not tokenizer.is_fast:
        encoded = tokenizer(text, return_attention_mask=True, verbose=False, **bounds)
        return spell(tokenizer, text, encoded.input_ids, encoded.attention_mask)
    with _given_back(tokenizer.backend_tokenizer):
        return tokenizer(text, return_attention_mask=True, verbose=False, **bounds).encodings[0]


@contextmanager
def _given_back(backend: Any) -> Generator[None, None, None]:
    """Leaves the cutting and padding that a tokenizer remembers from call to call as they were."""
    truncation, padding = backend.truncation, backend.padding
    try:
        yield
    finally:
        backend.no_truncation() if truncation is None else backend.enable_truncation(**truncation)
        backend.no_padding() if padding is None else backend.enable_padding(**padding)


def _fallen(encoder: str, whole: tuple[Word, ...], kept: tuple[Word, ...]) -> tuple[str, ...]:
    """Labels of the words of which an encoder does not read all tokens."""
    pairs = zip(whole, kept, strict=True)
    return tuple(full.label for full, part in pairs if len(part.tokens[encoder]) < len(full.tokens[encoder]))
