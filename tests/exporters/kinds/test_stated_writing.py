"""Tokens that end a text: the folder's, unless the bundle states that its owner named them."""

from rankport.exporters.kinds.stated_writing import OWN_ENDS, own_ends
from rankport.runtime.bundle.bundle import Bundle


def test_the_folder_says_what_ends_a_text_unless_the_owner_did(generator_bundle: Bundle) -> None:
    manifest = generator_bundle.manifest
    assert own_ends(manifest) is None
    overridden = manifest.source.model_copy(update={"overrides": [OWN_ENDS]})
    assert own_ends(manifest.model_copy(update={"source": overridden})) == [2]
