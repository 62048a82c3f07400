"""Analysers of what homomorphic encryption leaves on the wire: a-parts, noise, encryptions of zero, keys, samplers."""
