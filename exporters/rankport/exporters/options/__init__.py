"""Everything that an export can be asked for, and what it takes where nothing was said. Loads no model, no torch.

The ground floor: all of the exporters and the command line import it; a kind's own options lie with the kind.
"""
