"""Query suggestion: a job title as people write it to the occupation's own name, by a small T5."""
