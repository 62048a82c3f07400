"""Eight float64 lanes as one opaque numba value, and the few operations that the NTT kernels need.

LLVM lowers `<8 x double>` to AVX-512, 2 x AVX2, 4 x NEON or scalar code, whichever the CPU has, so one kernel text
serves all of them. The fused multiply-add has one rounding on every target; without hardware support it is slow, but
still exact.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import models, register_model

from protocols.he.jit import kernel, vector_op

LANES = 8
_VECTOR = ir.VectorType(ir.DoubleType(), LANES)


class _Vec8(types.Type):
    def __init__(self) -> None:
        super().__init__(name="float64x8")


vec8 = _Vec8()
Vector = Any  # the Python-side annotation of a lane vector inside kernels


@register_model(_Vec8)
class _Vec8Model(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _VECTOR)  # type: ignore[no-untyped-call]  # numba is untyped here


def _address(context: Any, builder: Any, signature: Any, array: Any, index: Any) -> Any:
    data = context.make_array(signature.args[0])(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


def _call(builder: Any, name: str, *operands: Any) -> Any:
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * len(operands))
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name=name)
    return builder.call(function, operands)


def _splat(builder: Any, scalar: Any) -> Any:
    zero = ir.Constant(ir.IntType(32), 0)
    one_lane = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, zero)
    return builder.shuffle_vector(one_lane, one_lane, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [zero] * LANES))


@vector_op
def load(typing: Any, array: Any, index: Any) -> Any:
    """Lanes array[index .. index + 7] of a contiguous float64 row; no bounds check."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_address(context, builder, signature, args[0], args[1]), align=8)

    return vec8(array, types.intp), lower


@vector_op
def store(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """array[index .. index + 7] = value; no bounds check."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _address(context, builder, signature, args[0], args[1]), align=8)
        return context.get_dummy_value()

    return types.void(array, types.intp, vec8), lower


@vector_op
def splat(typing: Any, value: Any) -> Any:
    """The same scalar in every lane."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _splat(builder, args[0])

    return vec8(types.float64), lower


@vector_op
def add(typing: Any, a: Any, b: Any) -> Any:
    """a + b by lane."""
    return vec8(vec8, vec8), lambda context, builder, signature, args: builder.fadd(args[0], args[1])


@vector_op
def sub(typing: Any, a: Any, b: Any) -> Any:
    """a - b by lane."""
    return vec8(vec8, vec8), lambda context, builder, signature, args: builder.fsub(args[0], args[1])


@vector_op
def mul(typing: Any, a: Any, b: Any) -> Any:
    """a * b by lane, rounded."""
    return vec8(vec8, vec8), lambda context, builder, signature, args: builder.fmul(args[0], args[1])


@vector_op
def fms(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b - c by lane with one rounding."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _call(builder, "llvm.fma.v8f64", args[0], args[1], builder.fneg(args[2]))

    return vec8(vec8, vec8, vec8), lower


@vector_op
def fnma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """c - a * b by lane with one rounding."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _call(builder, "llvm.fma.v8f64", builder.fneg(args[0]), args[1], args[2])

    return vec8(vec8, vec8, vec8), lower


_MAGIC = 1.5 * 2.0**52  # a sum with it has unit spacing: the addition itself rounds to the nearest integer


@vector_op
def quotient(typing: Any, a: Any, b: Any) -> Any:
    """Integer nearest to a * b by lane, ties to even, for |a * b| <= 2^51: one fused multiply-add and one
    subtraction.
    """

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        magic = _splat(builder, ir.Constant(ir.DoubleType(), _MAGIC))
        return builder.fsub(_call(builder, "llvm.fma.v8f64", args[0], args[1], magic), magic)

    return vec8(vec8, vec8), lower


@vector_op
def lift(typing: Any, a: Any, p: Any) -> Any:
    """a where a >= 0, else a + p, by lane."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        negative = builder.fcmp_ordered("<", args[0], _splat(builder, ir.Constant(ir.DoubleType(), 0.0)))
        return builder.select(negative, builder.fadd(args[0], args[1]), args[0])

    return vec8(vec8, vec8), lower


def _interleave(span: int, high: bool) -> list[int]:
    """Lane choice of one transposition step: blocks of `span` lanes are taken in turn from two vectors."""
    half = span if high else 0
    return [(lane % span) + (lane // (2 * span)) * 2 * span + half + (LANES if (lane // span) % 2 else 0)
            for lane in range(LANES)]


def _shuffle(span: int, high: bool) -> Any:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), _interleave(span, high))
    return vec8(vec8, vec8), lambda context, builder, signature, args: builder.shuffle_vector(args[0], args[1], mask)


@vector_op
def low1(typing: Any, a: Any, b: Any) -> Any:
    """Even lanes of a and b, interleaved: one half of a 2x2 block transposition."""
    return _shuffle(1, False)


@vector_op
def high1(typing: Any, a: Any, b: Any) -> Any:
    """Odd lanes of a and b, interleaved."""
    return _shuffle(1, True)


@vector_op
def low2(typing: Any, a: Any, b: Any) -> Any:
    """Even pairs of lanes of a and b, interleaved."""
    return _shuffle(2, False)


@vector_op
def high2(typing: Any, a: Any, b: Any) -> Any:
    """Odd pairs of lanes of a and b, interleaved."""
    return _shuffle(2, True)


@vector_op
def low4(typing: Any, a: Any, b: Any) -> Any:
    """Low four lanes of a, then of b."""
    return _shuffle(4, False)


@vector_op
def high4(typing: Any, a: Any, b: Any) -> Any:
    """High four lanes of a, then of b."""
    return _shuffle(4, True)


@kernel
def transposed(
    r0: Vector, r1: Vector, r2: Vector, r3: Vector, r4: Vector, r5: Vector, r6: Vector, r7: Vector
) -> tuple[Vector, ...]:
    """The rows of an 8 x 8 matrix, as its columns."""
    a0, a1, a2, a3 = low1(r0, r1), high1(r0, r1), low1(r2, r3), high1(r2, r3)
    a4, a5, a6, a7 = low1(r4, r5), high1(r4, r5), low1(r6, r7), high1(r6, r7)
    r0, r1, r2, r3 = low2(a0, a2), low2(a1, a3), high2(a0, a2), high2(a1, a3)
    r4, r5, r6, r7 = low2(a4, a6), low2(a5, a7), high2(a4, a6), high2(a5, a7)
    return (low4(r0, r4), low4(r1, r5), low4(r2, r6), low4(r3, r7),
            high4(r0, r4), high4(r1, r5), high4(r2, r6), high4(r3, r7))


_WORDS = ir.VectorType(ir.IntType(64), LANES)


def _on_words(emit: Any) -> Any:
    """A lowering on the lanes as 64-bit integers."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(emit(builder, *(builder.bitcast(arg, _WORDS) for arg in args)), _VECTOR)

    return lower


@vector_op
def integer(typing: Any, value: Any) -> Any:
    """The same 64-bit integer in every lane: lanes of integers share the type, and the loads, stores and shuffles."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _splat(builder, builder.bitcast(args[0], ir.DoubleType()))

    return vec8(types.int64), lower


@vector_op
def plus(typing: Any, a: Any, b: Any) -> Any:
    """a + b by lane modulo 2^64."""
    return vec8(vec8, vec8), _on_words(lambda builder, x, y: builder.add(x, y))


@vector_op
def minus(typing: Any, a: Any, b: Any) -> Any:
    """a - b by lane modulo 2^64."""
    return vec8(vec8, vec8), _on_words(lambda builder, x, y: builder.sub(x, y))


@vector_op
def both(typing: Any, a: Any, b: Any) -> Any:
    """a and b by bit."""
    return vec8(vec8, vec8), _on_words(lambda builder, x, y: builder.and_(x, y))


@vector_op
def over52(typing: Any, a: Any) -> Any:
    """floor(a / 2^52) by lane, unsigned."""

    def emit(builder: Any, x: Any) -> Any:
        return builder.lshr(x, ir.Constant(_WORDS, [52] * LANES))

    return vec8(vec8), _on_words(emit)


def _product52(half: str) -> Any:
    def emit(builder: Any, *operands: Any) -> Any:
        name, kind = f"llvm.x86.avx512.vpmadd52{half}.uq.512", ir.FunctionType(_WORDS, [_WORDS] * 3)
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name=name)
        return builder.call(function, operands)

    return vec8(vec8, vec8, vec8), _on_words(emit)


@vector_op
def low52(typing: Any, total: Any, a: Any, b: Any) -> Any:
    """total + the low half of the product of the low 52 bits of a and b by lane. Needs AVX-512 IFMA."""
    return _product52("l")


@vector_op
def high52(typing: Any, total: Any, a: Any, b: Any) -> Any:
    """total + the high half of that product. Needs AVX-512 IFMA."""
    return _product52("h")


@vector_op
def to_integer(typing: Any, a: Any) -> Any:
    """Lanes that hold whole numbers as signed integers."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(builder.fptosi(args[0], _WORDS), _VECTOR)

    return vec8(vec8), lower


@vector_op
def to_float(typing: Any, a: Any) -> Any:
    """Signed integers below 2^53 in absolute value as float64."""

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.sitofp(builder.bitcast(args[0], _WORDS), _VECTOR)

    return vec8(vec8), lower
