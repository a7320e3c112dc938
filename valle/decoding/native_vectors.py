"""Sixteen float32 at once, as a value of numba: what the products and the attention of the native step are written in.

LLVM cuts such a vector into as many as the processor has: one of 512 bits, two of 256, four of 128.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

WIDTH = 16  # float32 in a vector
FLOATS = ir.VectorType(ir.FloatType(), WIDTH)
INTS = ir.VectorType(ir.IntType(32), WIDTH)
CONTRACT = ("contract",)  # a product and a sum may be one instruction


class Vector(types.Type):
    """The type of a vector in numba's eyes."""

    def __init__(self) -> None:
        super().__init__(name=f"float32x{WIDTH}")


VECTOR = Vector()


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    """A vector lies in registers."""

    def __init__(self, manager, kind):
        super().__init__(manager, kind, FLOATS)


@intrinsic
def zeros(context):
    """A vector of zeros."""

    def generate(context, builder, signature, arguments):
        return ir.Constant(FLOATS, [0.0] * WIDTH)

    return VECTOR(), generate


@intrinsic
def load(context, array, place):
    """``array[place : place + 16]`` as float32: itself, the upper half of a float32 (bfloat16, as uint16), or whole numbers."""
    kind = array.dtype

    def generate(context, builder, signature, arguments):
        stored_as = ir.VectorType(context.get_value_type(kind), WIDTH)
        stored = builder.load(_place(context, builder, signature, arguments, stored_as), align=kind.bitwidth // 8)
        if kind == types.float32:
            return stored
        if kind == types.uint16:
            upper = builder.shl(builder.zext(stored, INTS), ir.Constant(INTS, [16] * WIDTH))
            return builder.bitcast(upper, FLOATS)
        return builder.sitofp(stored, FLOATS)

    return VECTOR(array, types.intp), generate


@intrinsic
def store(context, array, place, vector):
    """Write a vector to ``array[place : place + 16]``, of float32."""

    def generate(context, builder, signature, arguments):
        builder.store(arguments[2], _place(context, builder, signature, arguments, FLOATS), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, VECTOR), generate


def _place(context, builder, signature, arguments, kind):
    """A pointer to ``kind`` at ``arguments[1]`` of the array ``arguments[0]``."""
    array = cgutils.create_struct_proxy(signature.args[0])(context, builder, arguments[0])
    return builder.bitcast(builder.gep(array.data, [arguments[1]]), ir.PointerType(kind))


@intrinsic
def plus(context, total, vector, factor):
    """``total + vector * factor``, where ``factor`` is a vector or one number for all."""

    def generate(context, builder, signature, arguments):
        total, vector, factor = arguments
        if signature.args[2] == types.float32:
            nothing, first = ir.Constant(FLOATS, ir.Undefined), ir.Constant(ir.IntType(32), 0)
            factor = builder.shuffle_vector(builder.insert_element(nothing, factor, first), nothing, ir.Constant(INTS, [0] * WIDTH))
        return builder.fadd(total, builder.fmul(vector, factor, flags=CONTRACT), flags=CONTRACT)

    return VECTOR(total, vector, factor), generate


@intrinsic
def prefetch(context, array, place):
    """Ask for ``array[place]``, which may lie behind the end, to be brought near."""

    def generate(context, builder, signature, arguments):
        whole, byte = ir.IntType(32), ir.PointerType(ir.IntType(8))
        kind = ir.FunctionType(ir.VoidType(), [byte, whole, whole, whole])
        call = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        to_read, keep, data = (ir.Constant(whole, number) for number in (0, 3, 1))
        builder.call(call, [_place(context, builder, signature, arguments, ir.IntType(8)), to_read, keep, data])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@intrinsic
def put(context, array, place, value):
    """``array[place] = value``, rounded to the nearest (ties to even) where the array holds bfloat16 as uint16."""

    def generate(context, builder, signature, arguments):
        array = cgutils.create_struct_proxy(signature.args[0])(context, builder, arguments[0])
        pointer, value = builder.gep(array.data, [arguments[1]]), arguments[2]
        if signature.args[0].dtype == types.uint16:
            bits, whole = builder.bitcast(value, ir.IntType(32)), ir.IntType(32)
            odd = builder.and_(builder.lshr(bits, ir.Constant(whole, 16)), ir.Constant(whole, 1))
            rounded = builder.add(builder.add(bits, ir.Constant(whole, 0x7FFF)), odd)
            value = builder.trunc(builder.lshr(rounded, ir.Constant(whole, 16)), ir.IntType(16))
        builder.store(value, pointer)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.float32), generate


@intrinsic
def wide_vectors(context):
    """Has the function that calls it use vectors of 512 bits where the processor has them: LLVM prefers 256 by itself."""

    def generate(context, builder, signature, arguments):
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')  # llvmlite knows no attributes that have values
        return context.get_dummy_value()

    return types.void(), generate
