"""`ProofReport`: what a command measured of a bundle, for its page and its JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rankport.exporters.proof.prove import Proof
from rankport.runtime.bundle.manifest import Manifest, Target
from rankport.sdk.cli.output.bundle.measures import compared_with
from rankport.sdk.cli.output.run_facts import RunFacts


@dataclass(frozen=True, slots=True)
class ProofReport:
    """A bundle, its proofs by target, and the run that made them."""

    manifest: Manifest
    proofs: Mapping[Target, Proof]  # the first stands for the bundle
    failures: Sequence[str]
    run: RunFacts

    @property
    def first(self) -> Proof:
        """The proof of the graphs for the first target."""
        return next(iter(self.proofs.values()))

    def as_json(self) -> dict[str, object]:
        """Makes JSON of all that the page says, without the values behind its plots."""
        quality, drift, agreement = self.first.quality, self.first.drift, self.first.agreement
        manifest = self.manifest.model_dump(mode="json")
        facts = (
            "name",
            "version",
            "kind",
            "fingerprint",
            "source",
            "precision",
            "quantization",
            "prompt",
            "labels",
        )
        return {
            "passed": not self.failures,
            "failures": list(self.failures),
            "compared_with": compared_with(self.first.parity),
            "parity": self.first.parity.model_dump(mode="json"),
            "targets": {
                target: proof.parity.model_dump(mode="json") for target, proof in self.proofs.items()
            },
            "drift": None if drift is None else [mode.model_dump(mode="json") for mode in drift],
            "quality": None if quality is None else quality.model_dump(mode="json"),
            "agreement": None if agreement is None else agreement.figures.model_dump(mode="json"),
            **{name: manifest[name] for name in (*facts, "limits", "embedding", "tokenization", "files")},
            **({"score": manifest["score"]} if "score" in manifest else {}),
            "run": asdict(self.run),
        }
