// The rules that the reader of PyTorch checkpoints checks: the zip archive (371x), its pickle (312x), storages and
// views (313x), and what is well-formed but not read (571x). Limits are in formats/base/limits.h.
#pragma once

#include "formats/base/status.h"

namespace q4 {

// The archive. PyTorch writes one form of zip; whatever leaves room for two readings is refused.

// No end record at the end of the file, a comment behind it, zip64 records that say something else, a directory that
// does not lie right before it, or that has other entries than it says.
inline constexpr Issue kZipDirectory{3710, ExitCode::kInvalidInput,
                                     "zip directory must end the file and agree with its end records"};
// A local header that is absent or differs from the directory, flags, lengths or extra fields of another form.
inline constexpr Issue kZipEntry{3711, ExitCode::kInvalidInput, "zip entry is not what torch.save writes"};
// Bytes before, between or behind entries, or bytes of two of them.
inline constexpr Issue kZipRanges{3712, ExitCode::kInvalidInput,
                                  "zip entries must follow each other without gap or overlap"};
// Not NAME/..., a path that leads elsewhere, a second root, or the same name twice, but for upper and lower case.
inline constexpr Issue kZipName{3713, ExitCode::kInvalidInput,
                                "zip entries must have different plain names in one root folder"};
inline constexpr Issue kZipCrc{3714, ExitCode::kInvalidInput, "CRC-32 mismatch: the file is damaged"};
inline constexpr Issue kZipTooMany{3715, ExitCode::kInvalidInput, "more zip entries than the limit"};
// Mostly a zip archive of something else.
inline constexpr Issue kTorchNoPickle{3716, ExitCode::kInvalidInput, "zip archive must have one data.pkl"};

// The pickle. It is never executed: names and opcodes that a plain state dict needs have a meaning, others have none.

// An opcode that torch.save does not use, a length that does not fit, a stack or memo that lacks what is asked for.
inline constexpr Issue kPickleProgram{3123, ExitCode::kInvalidInput, "pickle is not what torch.save writes"};
// Its names are listed, and nothing of them is imported or called.
inline constexpr Issue kPickleName{3124, ExitCode::kInvalidInput, "global is not part of a plain state dict"};
inline constexpr Issue kPickleOperand{3125, ExitCode::kInvalidInput, "pickle operand of a wrong type"};
inline constexpr Issue kPickleTooLarge{3126, ExitCode::kInvalidInput, "pickle larger than the limit"};
// Keys of a state dict.
inline constexpr Issue kTorchKey{3127, ExitCode::kInvalidInput,
                                 "keys of a state dict must be different texts of 1 to 4096 bytes without NUL"};

// Storages and the tensors that are views of them.

inline constexpr Issue kTorchStorage{3131, ExitCode::kInvalidInput, "storage is not a record of the archive"};
inline constexpr Issue kTorchStorageSize{3132, ExitCode::kInvalidInput, "storage size differs from its record"};
inline constexpr Issue kTorchShape{3133, ExitCode::kInvalidInput, "bad size, stride or offset of a tensor"};
// Also a view that shows elements of a storage more than once: a few bytes would become any number of elements.
inline constexpr Issue kTorchView{3134, ExitCode::kInvalidInput, "view reaches outside its storage"};
inline constexpr Issue kTorchExpanded{3135, ExitCode::kInvalidInput,
                                      "view shows elements of its storage more than once"};
// Code that would run when a gradient is computed. A saved one names a function, which no loader should call.
inline constexpr Issue kTorchHooks{3136, ExitCode::kInvalidInput, "backward hooks of a tensor must be empty"};
inline constexpr Issue kTorchTooManyTensors{3137, ExitCode::kInvalidInput, "more tensors than the limit"};

// What is not read.

// torch.save compresses nothing, and a few bytes could become any number.
inline constexpr Issue kZipCompressed{5710, ExitCode::kUnsupported, "compressed zip entries are not read"};
inline constexpr Issue kTorchVersion{5711, ExitCode::kUnsupported, "this version of PyTorch's archive is not read"};
inline constexpr Issue kTorchScript{5712, ExitCode::kUnsupported, "TorchScript archives hold code and are not read"};
// Before PyTorch 1.6 or with _use_new_zipfile_serialization=False; also a bare pickle, and a tar of the first versions.
inline constexpr Issue kTorchLegacy{5713, ExitCode::kUnsupported, "legacy PyTorch checkpoints are not read"};
inline constexpr Issue kPickleProtocol{5714, ExitCode::kUnsupported, "this pickle protocol is not read"};
// Quantized, sparse, meta, complex of 16 bytes, and others that are no plain elements.
inline constexpr Issue kTorchTensorKind{5715, ExitCode::kUnsupported, "this kind of tensor is not read"};
inline constexpr Issue kTorchNoStateDict{5716, ExitCode::kUnsupported, "no state dict found"};

}  // namespace q4
