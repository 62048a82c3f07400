"""SEAL's number-theoretic transform, timed in a process of its own: one line of numbers for each line that it is sent.

Its Python binding has no transform of a single row, so all rows of a ciphertext are transformed and the time divided.
"""

import sys
import time

import seal

DEGREE, REPEATS = 8192, 20


def main() -> None:
    parameters = seal.EncryptionParameters(seal.scheme_type.bfv)
    parameters.set_poly_modulus_degree(DEGREE)
    parameters.set_coeff_modulus(seal.CoeffModulus.BFVDefault(DEGREE))
    parameters.set_plain_modulus(seal.PlainModulus.Batching(DEGREE, 20))
    context = seal.SEALContext(parameters)
    plain = seal.BatchEncoder(context).encode(list(range(DEGREE)))
    ciphertext = seal.Encryptor(context, seal.KeyGenerator(context).create_public_key()).encrypt(plain)
    evaluator, rows = seal.Evaluator(context), ciphertext.size() * ciphertext.coeff_modulus_size()
    for _ in sys.stdin:
        spent = []
        for _ in range(REPEATS):
            start = time.thread_time_ns()
            evaluator.transform_to_ntt_inplace(ciphertext)
            spent.append((time.thread_time_ns() - start) / rows)
            evaluator.transform_from_ntt_inplace(ciphertext)
        print(min(spent), flush=True)


if __name__ == "__main__":
    main()
