"""Body of LFM2.5's encoders, for transformers' loaders: LFM2's own, with convolutions around each token."""

from typing import Any

from torch import Tensor
from torch.nn import functional
from transformers import AutoModel, Lfm2Model
from transformers.models.lfm2.modeling_lfm2 import Lfm2ShortConv

from rankport.exporters.checkpoints.published.classes.lfm2_both_ways_config import BidirectionalLfm2Config


class CentredConvolution(Lfm2ShortConv):
    """LFM2's gated short convolution, its kernel centred on a token; padding is zero before it, as a text's end is."""

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **_: Any) -> Tensor:
        """Computes states [items, tokens, width] of states."""
        if attention_mask is not None:
            hidden_states = hidden_states * attention_mask[:, :, None].to(hidden_states.dtype)
        before, behind, states = self.in_proj(hidden_states).transpose(1, 2).chunk(3, dim=1)
        mixed = functional.conv1d(
            before * states,
            self.conv.weight,
            self.conv.bias,
            padding=self.conv_kernel_size // 2,
            groups=self.conv.groups,
        )
        gated: Tensor = self.out_proj((behind * mixed[:, :, : states.shape[2]]).transpose(1, 2))
        return gated


class BidirectionalLfm2Model(Lfm2Model):  # type: ignore[no-untyped-call]
    """The body: transformers masks nothing but padding where `is_causal` is false."""

    config_class = BidirectionalLfm2Config

    def __init__(self, config: BidirectionalLfm2Config) -> None:
        """Makes the body, weights as transformers initializes them."""
        super().__init__(config)
        for place, layer in enumerate(self.layers):
            if not layer.is_attention_layer:
                layer.conv = CentredConvolution(config, place)


AutoModel.register(BidirectionalLfm2Config, BidirectionalLfm2Model, exist_ok=True)
