"""Body and head of a layerwise MiniCPM, for transformers' loaders: Granite's, and the head that decoders share."""

from transformers import AutoModel, AutoModelForSequenceClassification, GraniteModel, GranitePreTrainedModel
from transformers.modeling_layers import GenericForSequenceClassification

from rankport.exporters.checkpoints.published.classes.minicpm_config import LayerwiseMiniCpmConfig


class LayerwiseMiniCpmModel(GraniteModel):  # type: ignore[no-untyped-call]
    """The body: the layers up to the one that is read, and the norm behind."""

    config_class = LayerwiseMiniCpmConfig


class LayerwiseMiniCpmForSequenceClassification(  # type: ignore[no-untyped-call]
    GenericForSequenceClassification, GranitePreTrainedModel
):
    """The body, and that layer's linear head without bias at a text's last token."""

    config_class = LayerwiseMiniCpmConfig


AutoModel.register(LayerwiseMiniCpmConfig, LayerwiseMiniCpmModel, exist_ok=True)
AutoModelForSequenceClassification.register(
    LayerwiseMiniCpmConfig, LayerwiseMiniCpmForSequenceClassification, exist_ok=True
)
