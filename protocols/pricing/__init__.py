"""What a whole model costs, from the closed forms of its protocols: published shapes, and a row per layer and operator.

Nothing here computes or draws anything: prices at full size take milliseconds.
"""
