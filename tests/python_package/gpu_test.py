"""The package on a GPU: the same bytes out of it, and tensors in its memory that are those of the host. Skipped where there is none."""

import ctypes
import pathlib
import sys
import tempfile

from package_setup import CHECKPOINTS, SOURCE, check, count

import q4


class Device:
    """Copies from the GPU by the driver's own interface, which every machine with a GPU has."""

    def __init__(self):
        self.cuda = ctypes.CDLL("libcuda.so.1")
        context, device = ctypes.c_void_p(), ctypes.c_int()
        self.call("cuInit", 0)
        self.call("cuDeviceGet", ctypes.byref(device), 0)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self.call("cuCtxSetCurrent", context)

    def call(self, name, *arguments):
        check(getattr(self.cuda, name)(*arguments) == 0, name)

    def octets(self, array):
        """Of a one-dimensional array of bytes, by DLPack: the address is what a DLManagedTensor begins with, the shape is behind."""
        check(array.__dlpack_device__() == (2, 0), "memory of the GPU", array.__dlpack_device__())
        capsule = array.__dlpack__()
        pointer = ctypes.pythonapi.PyCapsule_GetPointer
        pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        words = ctypes.cast(pointer(capsule, b"dltensor"), ctypes.POINTER(ctypes.c_uint64))
        # data, device, dimensions and dtype, shape, strides, offset
        size = ctypes.cast(words[3], ctypes.POINTER(ctypes.c_int64))[0]
        buffer = ctypes.create_string_buffer(size)
        self.call("cuMemcpyDtoH_v2", buffer, ctypes.c_uint64(words[0] + words[5]), ctypes.c_size_t(size))
        return buffer.raw


def main():
    reason = q4.build_info().no_gpu_reason
    if reason:
        print(f"SKIP python_gpu: {reason}")
        sys.exit(77)
    device = Device()
    with tempfile.TemporaryDirectory(prefix="q4-python-gpu-") as work:
        for source in (SOURCE, CHECKPOINTS / "tiny_fp4_src"):
            one, two = pathlib.Path(work) / "cpu.q4", pathlib.Path(work) / "gpu.q4"
            q4.convert(source, one, device="cpu", force=True)
            q4.convert(source, two, device="cuda", force=True)
            check(one.read_bytes() == two.read_bytes(), "the bytes of a GPU")
            model = q4.open(one)
            for form in ("quantized", "flat", "source", "float32", "float16", "bfloat16"):
                host, there = model.load(form=form), model.load(form=form, device="cuda:0", threads=2)
                check(there.device == "cuda:0" and there.nbytes == host.nbytes, "device", there.device)
                for name in host:
                    check(there[name].parts == host[name].parts, "parts")
                    for part in host[name].parts:
                        if memoryview(host[name].raw(part)).nbytes:
                            check(device.octets(there[name].raw(part)) == memoryview(host[name].raw(part)).tobytes(), "values", name, part, form)
            check(model.load(device="auto").device == "cuda:0", "auto")
            try:
                memoryview(there[name].raw(part))
            except BufferError:
                pass
            else:
                check(False, "memory of a GPU is no buffer")
            error = None
            try:
                model.load(device="cuda:63")
            except q4.DeviceError as caught:
                error = caught
            check(error is not None and error.exit_code == 4 and error.path is None, "no such GPU", error)
    print(f"python_gpu: {count()} checks")


main()
