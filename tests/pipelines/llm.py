"""Tiny language models, the text encoders of the newer families."""

from typing import Any, TypeVar

import torch
from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig, ChatGLMModel
from diffusers.pipelines.kolors.tokenizer import ChatGLMTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import (
    Gemma2Config,
    Gemma2Model,
    GlmConfig,
    GlmModel,
    LlamaConfig,
    LlamaModel,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    Qwen3VLConfig,
    Qwen3VLModel,
)

from tests.pipelines.parts import seeded

WIDTH, LAYERS = 32, 4
T = TypeVar("T", bound=PreTrainedTokenizerFast)


def starting(tokenizer: T) -> T:
    """The tokenizer, with its start token before every text, as in the released weights."""
    start = (str(tokenizer.bos_token), tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{start[0]} $A", special_tokens=[start])
    return tokenizer


def sizes(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Four layers of four heads, two of them for keys and values."""
    shape = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": LAYERS}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    shape |= {"initializer_range": 0.2}
    words = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    return shape | heads | words | {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}


def qwen3(tokenizer: PreTrainedTokenizerBase) -> Qwen3ForCausalLM:
    """FLUX.2 klein's."""
    return seeded(Qwen3ForCausalLM, 5, Qwen3Config(**sizes(tokenizer)))


def qwen3_base(tokenizer: PreTrainedTokenizerBase) -> Qwen3Model:
    """Z-Image's."""
    return seeded(Qwen3Model, 5, Qwen3Config(**sizes(tokenizer)))


def gemma2(tokenizer: PreTrainedTokenizerBase) -> Gemma2Model:
    """Sana's and Lumina 2's."""
    return seeded(Gemma2Model, 6, Gemma2Config(**sizes(tokenizer), query_pre_attn_scalar=8))


def glm(tokenizer: PreTrainedTokenizerBase) -> GlmModel:
    """CogView 4's."""
    return seeded(GlmModel, 7, GlmConfig(**sizes(tokenizer)))


def llama(tokenizer: PreTrainedTokenizerBase) -> LlamaModel:
    """HunyuanVideo's."""
    return seeded(LlamaModel, 8, LlamaConfig(**sizes(tokenizer)))


def chatglm(tokenizer: ChatGLMTokenizer) -> ChatGLMModel:
    """Kolors': its states are [t, b, c]. It begins with whatever lies in memory, so all of it is drawn."""
    heads = {"num_attention_heads": 4, "kv_channels": 8, "multi_query_attention": True, "multi_query_group_num": 2}
    shape = {"num_layers": 3, "hidden_size": WIDTH, "ffn_hidden_size": WIDTH, "seq_length": 256, "original_rope": True}
    model = ChatGLMModel(ChatGLMConfig(padded_vocab_size=tokenizer.vocab_size, add_qkv_bias=True, **shape, **heads))
    drawn = torch.Generator().manual_seed(3)
    for name, weight in model.named_parameters():
        weight.data = torch.ones_like(weight) if "norm" in name else 0.2 * torch.randn(weight.shape, generator=drawn)
    return model.eval()


def qwen_vl(tokenizer: PreTrainedTokenizerBase) -> Qwen2_5_VLForConditionalGeneration:
    """Qwen-Image's: a language model that also has eyes, which stay shut."""
    rope = {"type": "mrope", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    eyes = {"depth": 1, "hidden_size": WIDTH, "intermediate_size": WIDTH, "num_heads": 2, "out_hidden_size": WIDTH}
    config = Qwen2_5_VLConfig(text_config=sizes(tokenizer) | {"rope_scaling": rope}, vision_config=eyes)
    return seeded(Qwen2_5_VLForConditionalGeneration, 9, config)


def qwen3_vl(tokenizer: PreTrainedTokenizerBase) -> Qwen3VLModel:
    """Krea 2's: its eyes stay shut too."""
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "mrope_interleaved": True}
    eyes = {"depth": 1, "hidden_size": WIDTH, "intermediate_size": WIDTH, "num_heads": 2, "out_hidden_size": WIDTH}
    config = Qwen3VLConfig(
        text_config=sizes(tokenizer) | {"rope_scaling": rope}, vision_config=eyes | {"deepstack_visual_indexes": [0]}
    )
    return seeded(Qwen3VLModel, 9, config)


def mistral3(tokenizer: PreTrainedTokenizerBase) -> Mistral3ForConditionalGeneration:
    """FLUX.2 dev's."""
    eyes = {"model_type": "pixtral", "hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": 1}
    eyes |= {"num_attention_heads": 4, "head_dim": 8, "image_size": 16, "patch_size": 4}
    config = Mistral3Config(text_config=sizes(tokenizer) | {"model_type": "mistral"}, vision_config=eyes)
    return seeded(Mistral3ForConditionalGeneration, 10, config)
