"""Parameter sets of the homomorphic layer and their 128-bit check."""

from dataclasses import dataclass
from functools import cached_property
from reprlib import repr as shortened
from types import MappingProxyType

# HomomorphicEncryption.org standard: largest log2 of the whole modulus for 128-bit classical security, ternary secret.
SECURITY_CAP_BITS = MappingProxyType({1024: 27, 2048: 54, 4096: 109, 8192: 218, 16384: 438})
MIN_PRIME_BITS = 20  # enough primes = 1 mod 2N of every length
MIN_KAPPA = 40  # statistical security of the flooding, in bits
MAX_PRIME_BITS = 50  # the kernels hold residues in float64
MAX_DIGITS = 8  # and add up the products of so many, and the parts of a digit, before they reduce them


class InsecureParameters(ValueError):
    """A parameter set that does not reach 128-bit security."""


class ParameterRange(ValueError):
    """A parameter set with a field outside its range."""


class UnknownParameters(ValueError):
    """A name that is no parameter set."""


def _is_prime(n: int) -> bool:
    """Deterministic Miller-Rabin for n < 3.3 * 10^24."""
    bases = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41)
    if n < 2 or any(n % base == 0 for base in bases):
        return n in bases
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in bases:
        power = pow(base, odd, n)
        if power not in (1, n - 1) and not any((power := power * power % n) == n - 1 for _ in range(twos - 1)):
            return False
    return True


def ntt_primes(n: int, bits: tuple[int, ...]) -> tuple[int, ...]:
    """Distinct primes p = 1 mod 2n, one of each bit length asked for: the largest first, so the choice is
    reproducible.
    """
    taken: list[int] = []
    for width in bits:
        candidate = (1 << width) - 2 * n + 1
        while candidate in taken or not _is_prime(candidate):
            candidate -= 2 * n
            if candidate < 1 << (width - 1):
                raise InsecureParameters(f"no {width}-bit prime = 1 mod {2 * n} is left: choose longer primes")
        taken.append(candidate)
    return tuple(taken)


@dataclass(frozen=True)
class ParamSet:
    """Public parameters of one homomorphic session.

    n: ring degree. ring_bits, frac_bits: l and s of the shares. q_bits: prime lengths of the upload modulus q0; the
    first `kept` of them remain after the modulus switch (q1). special_bits: the primes of the key-switching modulus P,
    if any; a digit of a key switch is the residue modulo as many primes of q0 or q1 as P has, modulo one where there
    is none. [HanKi20] response_bits: the primes of the response modulus. kappa: statistical security of the flooding,
    in bits. galois: automorphism keys (expansion and packing) are allowed. insecure_test: skips the security check, for
    unit tests only.
    """

    name: str
    n: int
    ring_bits: int
    frac_bits: int
    q_bits: tuple[int, ...]
    kept: int
    special_bits: tuple[int, ...]
    response_bits: tuple[int, ...]
    kappa: int
    galois: bool
    insecure_test: bool = False

    def __post_init__(self) -> None:
        self._check_ranges()
        total = sum(self.q_bits + self.special_bits)
        cap = SECURITY_CAP_BITS.get(self.n, 0)
        if not self.insecure_test and total > cap:
            raise InsecureParameters(
                f"parameter set {self.name}: at most {cap} modulus bits are 128-bit secure at N = {self.n}, "
                f"came {total} (special primes included): choose a larger N or shorter primes")
        digits = self.digits(len(self.q_bits))
        if max(len(digits), len(digits[0])) > MAX_DIGITS:
            raise ParameterRange(f"parameter set {self.name}: expected at most {MAX_DIGITS} digits to a key switch, of "
                                 f"as many primes, came {len(digits)} of {len(digits[0])}: choose longer primes, or "
                                 "another number of special ones")

    def _check_ranges(self) -> None:
        """Every field an integer in its range: the modulus that the 128-bit check sees is the one that is used."""
        primes = range(MIN_PRIME_BITS, MAX_PRIME_BITS + 1)
        lengths = (*self.q_bits, *self.response_bits, *self.special_bits)
        numbers = (self.n, self.ring_bits, self.frac_bits, self.kept, self.kappa, *lengths)
        if any(type(number) is not int for number in numbers):
            raise ParameterRange(f"parameter set {self.name}: expected whole numbers, came {shortened(numbers)}")
        if not self.insecure_test and self.n not in SECURITY_CAP_BITS:
            known = ", ".join(map(str, SECURITY_CAP_BITS))
            raise InsecureParameters(f"parameter set {self.name}: 128-bit caps: expected N of {known}, came {self.n}")
        if not self.q_bits or not self.response_bits or any(length not in primes for length in lengths):
            raise ParameterRange(
                f"parameter set {self.name}: expected at least one prime in q_bits and response_bits, each and those "
                f"of special_bits of {MIN_PRIME_BITS} to {MAX_PRIME_BITS} bits, came {shortened(lengths)}")
        if not 1 <= self.kept <= len(self.q_bits):
            raise ParameterRange(f"parameter set {self.name}: expected 1 <= kept <= {len(self.q_bits)} primes after "
                                 f"the switch, came {self.kept}")
        if self.ring_bits not in range(16, 65) or self.frac_bits not in range(4, (self.ring_bits - 4) // 2 + 1):
            raise ParameterRange(f"parameter set {self.name}: expected 16 <= ring_bits <= 64 and 4 <= frac_bits <= "
                                 f"(ring_bits - 4) / 2, came {self.ring_bits} and {self.frac_bits}")
        if not MIN_KAPPA <= self.kappa <= 128:
            raise ParameterRange(f"parameter set {self.name}: expected {MIN_KAPPA} <= kappa <= 128, came {self.kappa}")

    @cached_property
    def primes(self) -> tuple[int, ...]:
        """q0 primes, special primes, response primes, then the auxiliary primes of the tensor product; all distinct."""
        return ntt_primes(self.n, self.q_bits + self.special_bits + self.response_bits + self.auxiliary_bits)

    def digits(self, count: int) -> list[range]:
        """The digits of a key switch modulo the first `count` primes of q0: the places of each one's primes."""
        step = max(1, len(self.special_bits))
        return [range(first, min(first + step, count)) for first in range(0, count, step)]

    @property
    def auxiliary_bits(self) -> tuple[int, ...]:
        """Enough 50-bit primes to exceed q0 by 10 bits: rounding the rescaled operand adds less than its own error."""
        return (MAX_PRIME_BITS,) * -(-(sum(self.q_bits) + 10) // MAX_PRIME_BITS)

    @property
    def quiet(self) -> bool:
        """Whether P is longer than every digit: then many key switches in a row add little noise."""
        digits = self.digits(len(self.q_bits))
        return self.galois and sum(self.special_bits) > max(sum(self.q_bits[k] for k in digit) for digit in digits)

    @property
    def q0_bits(self) -> int:
        """log2 of the upload modulus, as packed on the wire."""
        return sum(self.q_bits)

    @property
    def q1_bits(self) -> int:
        """log2 of the modulus after the switch."""
        return sum(self.q_bits[: self.kept])

    @property
    def response_total_bits(self) -> int:
        """log2 of the response modulus."""
        return sum(self.response_bits)

    def ciphertext_nbytes(self, switched: bool = False, sent: int | None = None) -> int:
        """Bytes of one seeded upload at q0, or at q1; sent: coefficients of the first component, all unless given."""
        coefficients = self.n if sent is None else sent
        return 32 - (-coefficients * (self.q1_bits if switched else self.q0_bits) // 8)

    def response_nbytes(self, outputs: int) -> int:
        """Bytes of one response with that many output coefficients."""
        return -(-(self.n + outputs) * self.response_total_bits // 8)


_SETS = (
    ParamSet("P64s", 16384, 64, 18, (40,) * 6, 4, (45, 45), (38, 38), 48, True),
    ParamSet("P64", 16384, 64, 18, (50, 50, 50, 45, 45), 3, (50, 50), (38, 38), 40, True),
    ParamSet("P64tiny", 8192, 64, 18, (43,) * 5, 5, (), (38, 38), 40, False),
    # For products without selection, which need no room for those of ciphertexts; packed, or with no Galois keys.
    ParamSet("P64packed", 8192, 64, 18, (42,) * 4, 4, (50,), (39, 39), 48, True),
    ParamSet("P64unpacked", 8192, 64, 18, (50, 50, 50), 3, (), (38, 38), 48, False),
    ParamSet("P32", 8192, 32, 12, (40, 40, 40, 50), 3, (48,), (22, 22), 40, True),
    ParamSet("P32tiny", 8192, 32, 12, (37,) * 4, 4, (), (22, 22), 40, False),
)
PARAM_SETS = MappingProxyType({params.name: params for params in _SETS})
INSECURE_TEST = ParamSet("INSECURE_TEST", 256, 64, 18, (40,) * 6, 4, (45, 45), (38, 38), 48, True, insecure_test=True)


def param_set(name: str) -> ParamSet:
    """The public parameter set of that name."""
    if name not in PARAM_SETS:
        raise UnknownParameters(f"parameter set: expected one of {', '.join(PARAM_SETS)}, came {name!r}")
    return PARAM_SETS[name]
