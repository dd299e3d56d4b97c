#!/usr/bin/env python3
"""Loads a container through the C interface with ctypes alone, as a binding would: ctypes_test.py LIBRARY CONTAINER."""
import ctypes
import struct
import sys


class Options(ctypes.Structure):
    _fields_ = [("device", ctypes.c_int32), ("form", ctypes.c_int32), ("check", ctypes.c_int32),
                ("threads", ctypes.c_uint32), ("tensors", ctypes.POINTER(ctypes.c_char_p)),
                ("tensor_count", ctypes.c_uint64)]


class Tensor(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("dtype", ctypes.c_char_p), ("rank", ctypes.c_uint32),
                ("shape", ctypes.c_uint64 * 8), ("elems", ctypes.c_uint64), ("values", ctypes.c_void_p),
                ("value_bytes", ctypes.c_uint64), ("scheme", ctypes.c_char_p), ("block_size", ctypes.c_uint32),
                ("blocks", ctypes.c_uint64), ("codes", ctypes.c_void_p), ("scales", ctypes.c_void_p),
                ("scale_codes", ctypes.c_void_p), ("scales2", ctypes.c_void_p), ("nested_offset_word", ctypes.c_void_p),
                ("nested_offset", ctypes.c_float)]


class Slice(ctypes.Structure):
    _fields_ = [("tensor", ctypes.c_char_p), ("dim", ctypes.c_uint32), ("begin", ctypes.c_uint64), ("end", ctypes.c_uint64)]


class PlanOptions(ctypes.Structure):
    _fields_ = [("form", ctypes.c_int32), ("tensors", ctypes.POINTER(ctypes.c_char_p)), ("tensor_count", ctypes.c_uint64),
                ("slices", ctypes.POINTER(Slice)), ("slice_count", ctypes.c_uint64), ("block_bytes", ctypes.c_uint64)]


class Part(ctypes.Structure):
    _fields_ = [("tensor", ctypes.c_uint64), ("kind", ctypes.c_int32), ("dtype", ctypes.c_char_p), ("rank", ctypes.c_uint32),
                ("shape", ctypes.c_uint64 * 8), ("bytes", ctypes.c_uint64), ("block", ctypes.c_uint64),
                ("offset", ctypes.c_uint64)]


class FillOptions(ctypes.Structure):
    _fields_ = [("device", ctypes.c_int32), ("check", ctypes.c_int32), ("threads", ctypes.c_uint32),
                ("await_stream", ctypes.c_int32), ("stream", ctypes.c_void_p)]


def check_fill(library, path):
    """A plan, and each of its parts into memory that Python owns; then a slice of one."""
    library.q4_plan_part_count.restype = ctypes.c_uint64
    library.q4_plan_part_count.argtypes = [ctypes.c_void_p]
    library.q4_plan_get_part.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.POINTER(Part)]
    library.q4_fill_parts.argtypes = [ctypes.c_void_p, ctypes.POINTER(FillOptions), ctypes.POINTER(ctypes.c_void_p)]
    library.q4_plan_free.argtypes = [ctypes.c_void_p]

    def fill(options):
        plan = ctypes.c_void_p()
        code = library.q4_plan_load(path, ctypes.byref(options), ctypes.byref(plan))
        assert code == 0, library.q4_last_error().decode()
        parts = []
        for number in range(library.q4_plan_part_count(plan)):
            part = Part()
            assert library.q4_plan_get_part(plan, number, ctypes.byref(part)) == 0
            parts.append(part)
        memory = [(ctypes.c_uint64 * (2 * ((part.bytes + 15) // 16) + 1))() for part in parts]
        aligned = [ctypes.addressof(buffer) + -ctypes.addressof(buffer) % 16 for buffer in memory]
        places = (ctypes.c_void_p * len(parts))(*aligned)
        code = library.q4_fill_parts(plan, ctypes.byref(FillOptions(device=-1)), places)
        assert code == 0, library.q4_last_error().decode()
        library.q4_plan_free(plan)
        return [(part.kind, part.dtype, list(part.shape)[:part.rank], ctypes.string_at(at, part.bytes))
                for part, at in zip(parts, aligned)]

    kinds = [(kind, dtype, shape) for kind, dtype, shape, _ in fill(PlanOptions())]
    assert kinds == [(0, b"BF16", [4]), (1, b"U8", [17]), (2, b"F32", [2])], kinds
    names = (ctypes.c_char_p * 1)(b"norm.weight")
    slices = (Slice * 1)(Slice(b"norm.weight", 0, 1, 3))
    (_, dtype, shape, content), = fill(PlanOptions(tensors=names, tensor_count=1, slices=slices, slice_count=1))
    assert (dtype, shape, content) == (b"BF16", [2], b"\x00\x3f\x00\xc0"), (dtype, shape, content)


def main():
    library = ctypes.CDLL(sys.argv[1])
    library.q4_last_error.restype = ctypes.c_char_p
    library.q4_tensor_count.restype = ctypes.c_uint64
    library.q4_tensor_count.argtypes = [ctypes.c_void_p]
    library.q4_find_tensor.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(Tensor)]
    library.q4_free.argtypes = [ctypes.c_void_p]
    assert library.q4_loader_version() == 2

    model = ctypes.c_void_p()
    options = Options(device=-1, form=2)
    code = library.q4_load(sys.argv[2].encode(), ctypes.byref(options), ctypes.byref(model))
    assert code == 0, library.q4_last_error().decode()
    assert library.q4_tensor_count(model) == 2
    tensor = Tensor()
    assert library.q4_find_tensor(model, b"proj.weight", ctypes.byref(tensor)) == 0
    assert (tensor.rank, list(tensor.shape)[:2], tensor.dtype) == (2, [3, 11], b"F32")
    # docs/format.md section 12: codes 15, 0, 1, ... with scale 0.5; 15 stands for 1, 0 for -1, 7 for 0.
    values = struct.unpack("<33f", ctypes.string_at(tensor.values, tensor.value_bytes))
    assert values[:2] == (0.5, -0.5), values[:2]
    assert values[8] == 0.0, values[8]
    library.q4_free(model)

    check_fill(library, sys.argv[2].encode())

    assert library.q4_load(b"/no/such/file.q4", None, ctypes.byref(model)) == 2
    assert b"/no/such/file.q4" in library.q4_last_error() and not model.value
    print("ctypes_test: ok")


if __name__ == "__main__":
    main()
