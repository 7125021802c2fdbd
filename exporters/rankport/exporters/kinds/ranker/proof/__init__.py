"""The proof of a ranker: requests that are sampled, judged or the owner's own, answered by source and bundle."""
