"""What the header of a homomorphic message allows to say: components, moduli, degree, seeds and a-parts, bytes.

Nothing is decrypted and no kernel is loaded: positions follow from parameters and plans, both public, and the residues
shown are cut out of the bit stream.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from protocols.he.packing import KeySet, LinearPlan, SelectPlan, key_set, upload_form
from protocols.he.params import ParamSet
from transcripts.store import Header

SEED_BYTES = 32
SHOWN_RESIDUES = 4
Plan = LinearPlan | SelectPlan
Primes = Sequence[int]


@dataclass(frozen=True)
class Homomorphic:
    """Reads the messages of one session's homomorphic layer; a `transcripts.facts.Reader`.

    answers: for each kind of response the plan and the number of its rows in one message.
    """

    params: ParamSet
    answers: Sequence[tuple[Plan, int]]

    def __call__(self, header: Header, content: bytes) -> Mapping[str, Any] | None:
        """JSON values: scheme, degree, `parts` with offset and bytes of each. None for other messages, and for bytes
        that are no whole number of ciphertexts of these parameters."""
        kinds = {"ciphertexts": self._uploads, "response": self._responses, "keys": self._keys}
        if header.spec.shape != (len(content),) or (kind := kinds.get(getattr(header.spec, "kind", ""))) is None:
            return None
        parts = list(kind(content))
        if sum(part["nbytes"] for part in parts) != len(content):
            return None
        return {"scheme": f"BFV, parameters {self.params.name}", "degree": self.params.n, "parts": parts}

    @property
    def _q0(self) -> Primes:
        return self.params.primes[: len(self.params.q_bits)]

    @property
    def _q1(self) -> Primes:
        return self._q0[: self.params.kept]

    @property
    def _special(self) -> Primes:
        count = len(self.params.q_bits)
        return self.params.primes[count : count + len(self.params.special_bits)]

    @property
    def _response(self) -> Primes:
        first = len(self.params.q_bits) + len(self._special)
        return self.params.primes[first : first + len(self.params.response_bits)]

    def _uploads(self, content: bytes) -> Iterator[dict[str, Any]]:
        switched, sent = upload_form(self.params, [plan for plan, _ in self.answers], len(content))
        size, primes = self.params.ciphertext_nbytes(switched, sent), self._q1 if switched else self._q0
        for start in range(0, len(content) - size + 1, size):
            yield self._seeded(content, start, "ciphertext", primes, sent)

    def _seeded(
        self, content: bytes, start: int, what: str, primes: Primes, sent: int | None = None
    ) -> dict[str, Any]:
        """A seed that stands for the a-part, then the other component; of a compact upload only so many coefficients
        of it."""
        n, body = self.params.n if sent is None else sent, 8 * (start + SEED_BYTES)
        return {
            "what": what,
            "offset": start,
            "nbytes": SEED_BYTES - (-n * sum(p.bit_length() for p in primes) // 8),
            "components": 2,
            "modulus_bits": [p.bit_length() for p in primes],
            "primes": list(primes),
            "a_part": {"seed": content[start : start + SEED_BYTES].hex()},
            "c0": {"coefficients": n, "residues": _residues(content, body, primes[0])},
        }

    def _responses(self, content: bytes) -> Iterator[dict[str, Any]]:
        plan = next((plan for plan, rows in self.answers if self._fits(plan, rows, len(content))), None)
        if plan is None:
            return
        primes, start = self._response, 0
        while start < len(content):
            for places in plan.response_positions:
                size, outputs = self.params.response_nbytes(places.size), int(places.size)
                a_part = 8 * start + outputs * self.params.response_total_bits
                yield {
                    "what": "response",
                    "offset": start,
                    "nbytes": size,
                    "components": 2,
                    "modulus_bits": [p.bit_length() for p in primes],
                    "primes": list(primes),
                    "a_part": {"coefficients": self.params.n, "residues": _residues(content, a_part, primes[0])},
                    "c0": {"coefficients": outputs, "residues": _residues(content, 8 * start, primes[0])},
                }
                start += size

    def _fits(self, plan: Plan, rows: int, nbytes: int) -> bool:
        """Whether so many bytes are an answer. Positions are laid out only where the outputs alone are no more than
        that: a file's parameters must not cost more memory than the file."""
        outputs = rows * math.prod(plan.outputs) * self.params.response_total_bits // 8
        return outputs <= nbytes and rows * plan.response_nbytes == nbytes

    def _keys(self, content: bytes) -> Iterator[dict[str, Any]]:
        keys: KeySet = key_set(self.params, [plan for plan, _ in self.answers])
        if keys.nbytes != len(content):
            return
        start = 0
        wide, narrow = [*self._q0, *self._special], [*self._q1, *self._special]
        digits0, digits1 = (len(self.params.digits(len(primes))) for primes in (self._q0, self._q1))
        rows: list[tuple[str, Primes, int]] = [("encryption key", self._q1, 1)]
        rows += [("relinearisation key", wide, digits0)] if keys.relinearise else []
        rows += [(f"expansion key, X -> X^{g}", wide, digits0) for g in keys.expansion]
        rows += [(f"packing key, X -> X^{g}", narrow, digits1) for g in keys.packing]
        for what, primes, digits in rows:
            for digit in range(digits):
                name = what if digits == 1 else f"{what}, digit {digit}"
                part = self._seeded(content, start, name, primes)
                start += part["nbytes"]
                yield part


def told(content: Mapping[str, Any], shown: int) -> list[str]:
    """The lines that a reader sees: one of the scheme, two for each of the first `shown` parts."""
    parts = content["parts"]
    lines = [f"{content['scheme']}, degree {content['degree']}, {len(parts)} x 2 components"]
    for part in parts[:shown]:
        bits = part["modulus_bits"]
        lines.append(
            f"{part['what']} at byte {part['offset']:,}, {part['nbytes']:,} bytes: modulus of {sum(bits)} bits, primes "
            + ", ".join(map(str, part["primes"]))
        )
        a_part, c0 = part["a_part"], part["c0"]
        whole = f"seed {a_part['seed']}" if "seed" in a_part else _polynomial(a_part)
        lines.append(f"  a-part {whole}; c0 {_polynomial(c0)}")
    if len(parts) > shown:
        lines.append(f"... {len(parts) - shown} more; --json gives all")
    return lines


def _polynomial(component: Mapping[str, Any]) -> str:
    return f"{component['coefficients']} coefficients {' '.join(map(str, component['residues']))} ..."


def _residues(content: bytes, position: int, prime: int) -> list[int]:
    """The first residues modulo the first prime; the rows of a component start with it. position: in bits."""
    width = prime.bit_length()
    found = []
    for at in range(position, position + SHOWN_RESIDUES * width, width):
        window = int.from_bytes(content[at // 8 : (at + width + 7) // 8], "little")
        found.append(window >> at % 8 & ((1 << width) - 1))
    return found
