"""Versions of models that come and go while a server answers: order of the steps. How bundles load, it is handed."""
