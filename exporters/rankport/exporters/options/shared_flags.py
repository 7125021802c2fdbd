"""Flags that several kinds have for the same, in the same words."""

from rankport.protos.flags import flag

MAX_PAIR_TOKENS = flag(
    "Longest pair the bundle accepts, special tokens included. [default: the folder's, within the positions]"
)
CUT = flag(
    "Which text of a pair that is too long gives way where a cut is asked for: longest-first, only-first (the "
    "prefix) or only-second (the item).",
    metavar="WHICH",
)
PREFIX_OF_TEXTS = flag(
    "Longest prefix the bundle accepts. [default: as the folder says, within the positions; else at most 1024, "
    "of a seq2seq 512]"
)
STOP_IDS = flag(
    "Tokens that end what a generator writes: 151643,151645. [default: eos_token_id of "
    "generation_config.json, else of config.json]"
)
ITEM_ENCODER = flag(
    "Takes items as embedding tokens too: bundle or fingerprint of the encoder it was trained with, so that "
    "tokens of any other are refused."
)
EMBEDDING_TOKENS = flag("Embedding tokens an item, if --item-encoder is a fingerprint.")
