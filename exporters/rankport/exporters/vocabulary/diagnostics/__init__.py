"""Figures of new rows beside pretrained ones: cosines, spectra, similarity to a codebook, and their plots."""
