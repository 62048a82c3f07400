"""Lattice reduction in exact integers (Lenstra, Lenstra, Lovasz), for the few dimensions that a planted leak needs."""

from __future__ import annotations

Rows = list[list[int]]


def reduced(basis: Rows) -> Rows:
    """An LLL-reduced basis (delta 3/4) of the lattice that linearly independent integer rows span.

    All-integer form: d[i] are the Gram determinants and lam[i][j] = d[j] mu[i][j].
    """
    b = [list(row) for row in basis]
    n = len(b)
    d = [1] + [0] * n
    lam = [[0] * n for _ in range(n)]
    known, k = -1, 0

    def size_reduce(i: int, j: int) -> None:
        if 2 * abs(lam[i][j]) <= d[j + 1]:
            return
        q = (2 * lam[i][j] + d[j + 1]) // (2 * d[j + 1])
        b[i] = [x - q * y for x, y in zip(b[i], b[j], strict=True)]
        lam[i][j] -= q * d[j + 1]
        for t in range(j):
            lam[i][t] -= q * lam[j][t]

    def swap(i: int) -> None:
        b[i], b[i - 1] = b[i - 1], b[i]
        for t in range(i - 1):
            lam[i][t], lam[i - 1][t] = lam[i - 1][t], lam[i][t]
        m = lam[i][i - 1]
        new = (d[i - 1] * d[i + 1] + m * m) // d[i]
        for r in range(i + 1, known + 1):
            t = lam[r][i]
            lam[r][i] = (d[i + 1] * lam[r][i - 1] - m * t) // d[i]
            lam[r][i - 1] = (new * t + m * lam[r][i]) // d[i + 1]
        d[i] = new

    while k < n:
        if k > known:
            known = k
            for j in range(k + 1):
                u = sum(x * y for x, y in zip(b[k], b[j], strict=True))
                for i in range(j):
                    u = (d[i + 1] * u - lam[k][i] * lam[j][i]) // d[i]
                if j < k:
                    lam[k][j] = u
                else:
                    d[k + 1] = u
        if k == 0:
            k = 1
            continue
        size_reduce(k, k - 1)
        if 4 * (d[k + 1] * d[k - 1] + lam[k][k - 1] ** 2) < 3 * d[k] ** 2:
            swap(k)
            k = max(k - 1, 1)
        else:
            for j in range(k - 2, -1, -1):
                size_reduce(k, j)
            k += 1
    return b
