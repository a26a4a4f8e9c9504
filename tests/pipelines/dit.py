"""Tiny pipelines whose denoiser is a transformer that looks at its text across: PixArt, Sana, Lumina 2, HunyuanDiT."""

from typing import Any

from diffusers import (
    AutoencoderDC,
    HunyuanDiT2DModel,
    HunyuanDiTPipeline,
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
)
from transformers import BertConfig, BertModel, BertTokenizer

from tests.pipelines import llm, parts
from tests.pipelines.parts import Maker, options, seeded
from tests.tokenizers import gemma_tokenizer, t5_tokenizer

WORDS = ("cat", "dog", "and", "red", "blue", "ball", "##oon", "car")


def pixart_sigma() -> PixArtSigmaPipeline:
    """PixArt-Sigma: T5 with its padding masked, a variance predicted beside the noise."""
    tokenizer = t5_tokenizer()
    denoiser = parts.denoiser(
        PixArtTransformer2DModel,
        sample_size=32,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        caption_channels=32,
        use_additional_conditions=False,
    )
    return parts.assembled(
        PixArtSigmaPipeline,
        transformer=denoiser,
        vae=parts.vae(),
        scheduler=parts.ddim(),
        tokenizer=tokenizer,
        text_encoder=parts.t5(tokenizer),
    )


def deep_autoencoder() -> AutoencoderDC:
    """Sana's autoencoder: a latent cell is 8 x 8 pixels here, 32 x 32 in the released weights."""
    levels = 4
    return seeded(
        AutoencoderDC,
        1,
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock",) * 3 + ("EfficientViTBlock",),
        decoder_block_types=("ResBlock",) * 3 + ("EfficientViTBlock",),
        encoder_block_out_channels=(8,) * levels,
        decoder_block_out_channels=(8,) * levels,
        encoder_layers_per_block=(1,) * levels,
        decoder_layers_per_block=(1,) * levels,
        encoder_qkv_multiscales=((), (), (), (5,)),
        decoder_qkv_multiscales=((), (), (), (5,)),
    )


def sana() -> SanaPipeline:
    """Sana: linear attention in the picture, plain attention to the text; an instruction goes before the prompt."""
    tokenizer = llm.starting(gemma_tokenizer())
    denoiser = parts.denoiser(
        SanaTransformer2DModel,
        sample_size=32,
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        num_attention_heads=4,
        attention_head_dim=8,
        num_cross_attention_heads=4,
        cross_attention_head_dim=8,
        cross_attention_dim=32,
        caption_channels=llm.WIDTH,
    )
    return parts.assembled(
        SanaPipeline,
        transformer=denoiser,
        vae=deep_autoencoder(),
        scheduler=parts.flow(),
        tokenizer=tokenizer,
        text_encoder=llm.gemma2(tokenizer),
    )


def lumina2() -> Lumina2Pipeline:
    """Lumina 2: text then picture in one stream of grouped heads, a system prompt before the prompt."""
    tokenizer = llm.starting(gemma_tokenizer())
    denoiser = parts.denoiser(
        Lumina2Transformer2DModel,
        sample_size=24,
        in_channels=4,
        hidden_size=32,
        num_layers=2,
        num_refiner_layers=1,
        num_attention_heads=4,
        num_kv_heads=2,
        multiple_of=16,
        axes_dim_rope=(4, 2, 2),
        axes_lens=(300, 24, 24),
        cap_feat_dim=llm.WIDTH,
    )
    return parts.assembled(
        Lumina2Pipeline,
        transformer=denoiser,
        vae=parts.flow_vae(levels=4),  # the pipeline takes for granted that a latent cell is 8 x 8 pixels
        scheduler=parts.flow(),
        tokenizer=tokenizer,
        text_encoder=llm.gemma2(tokenizer),
    )


def bert_tokenizer() -> BertTokenizer:
    """BERT's: words and pieces of words, a start and an end, of the letters and the words of the tests."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *letters, *("##" + letter for letter in letters)]
    return BertTokenizer(vocab={piece: index for index, piece in enumerate(pieces)}, model_max_length=77)


def hunyuan_dit() -> HunyuanDiTPipeline:
    """HunyuanDiT: BERT then T5 in one text sequence, skips between its layers."""
    tokenizer, tokenizer_2 = bert_tokenizer(), t5_tokenizer()
    shape: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    encoder = seeded(BertModel, 2, BertConfig(vocab_size=len(tokenizer), num_attention_heads=4, **shape))
    denoiser = parts.denoiser(
        HunyuanDiT2DModel,
        sample_size=24,
        patch_size=2,
        in_channels=4,
        hidden_size=32,
        num_layers=4,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        cross_attention_dim_t5=32,
        pooled_projection_dim=16,
        text_len=77,
        text_len_t5=256,
        activation_fn="gelu-approximate",
    )
    return parts.assembled(
        HunyuanDiTPipeline,
        transformer=denoiser,
        vae=parts.vae(levels=4),  # as Lumina 2
        scheduler=parts.ddim(prediction_type="v_prediction"),
        tokenizer=tokenizer,
        text_encoder=encoder,
        tokenizer_2=tokenizer_2,
        text_encoder_2=parts.t5(tokenizer_2),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


EXACT = {"use_resolution_binning": False}
FAMILIES = {
    "pixart_sigma": Maker(pixart_sigma, options(max_sequence_length=32, clean_caption=False, **EXACT)),
    "sana": Maker(sana, options(max_sequence_length=32, **EXACT)),
    "lumina2": Maker(lumina2, options(max_sequence_length=160)),
    "hunyuan_dit": Maker(hunyuan_dit, options(**EXACT)),
}
