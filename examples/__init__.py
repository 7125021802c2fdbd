"""The main job and other kinds, each trained, exported and measured on real data."""

import os

# Read when torch is loaded. Its threads spin while they wait, by default, and beside other work take the cores from
# those that they wait for: a training took several times its processor time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
