"""The kinds of models as an export makes them: the table, and for each kind its options, plan, graphs and proof.

A kind imports all floors below and no other kind. Export, verify and the command line import the table, and ask no
question of which kind it is.
"""
