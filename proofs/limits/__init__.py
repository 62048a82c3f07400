"""Bounds as a ledger: what must stay small does, in exact integers and fractions."""

from proofs.limits.ledger import limits
from proofs.limits.row import PROVED, REFUTED, Bound

__all__ = ["PROVED", "REFUTED", "Bound", "limits"]
