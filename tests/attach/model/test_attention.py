"""Which modules are attention layers: those of real denoisers, and none that merely look like one."""

from torch import nn

from probe.attach.model.attention import attention_modules, named_attention
from tests import pipelines


def test_attention_modules_of_a_real_denoiser():
    found = attention_modules(pipelines.pipeline("sd1").unet)
    assert len(found) == 14
    assert all(path.endswith(("attn1", "attn2")) for path in found)


def test_of_several_denoisers_each_path_begins_with_its_name():
    unet = pipelines.pipeline("sd1").unet
    found = named_attention({"unet": unet, "second": unet})
    own = attention_modules(unet)
    assert list(found) == [*(f"unet.{path}" for path in own), *(f"second.{path}" for path in own)]
    assert all(part is own[path.partition(".")[2]] for path, part in found.items())


class Layer(nn.Module):
    """A module with these projections, and with a processor or without."""

    def __init__(self, *names: str, processor: bool = True):
        super().__init__()
        for name in names:
            self.add_module(name, nn.Linear(2, 2))
        if processor:
            self.processor = object()


def test_an_attention_layer_owns_a_processor_and_projects_queries():
    model = nn.ModuleDict({
        "split": Layer("to_q", "to_k"), "fused": Layer("to_qkv"), "named": Layer("query"),
        "plain": Layer("to_q", processor=False), "other": Layer("quantise", "requery"),
    })  # fmt: skip
    assert list(attention_modules(model)) == ["split", "fused", "named"]
