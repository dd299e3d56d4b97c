// The rules checked in formats/base: files and output (2xxx), JSON text (30xx), compressed chunks (79xx).
#pragma once

#include "formats/base/status.h"

namespace q4 {

// Reading files.
inline constexpr Issue kCannotOpen{2001, ExitCode::kIo, "cannot open the file"};
inline constexpr Issue kCannotRead{2002, ExitCode::kIo, "cannot read"};
inline constexpr Issue kNotARegularFile{2003, ExitCode::kInvalidInput, "not a regular file"};
inline constexpr Issue kSymbolicLink{2004, ExitCode::kInvalidInput,
                                     "symbolic links are not followed without --follow-symlinks"};
inline constexpr Issue kFileEndsEarly{2005, ExitCode::kInvalidInput, "file ends early"};
inline constexpr Issue kFileChanged{2006, ExitCode::kInvalidInput, "input changed while reading"};
inline constexpr Issue kFileTooLarge{2007, ExitCode::kInvalidInput, "file is larger than the limit"};
inline constexpr Issue kCannotStat{2008, ExitCode::kIo, "cannot get information about the path"};
inline constexpr Issue kCannotList{2009, ExitCode::kIo, "cannot list the directory"};

// Writing files.
inline constexpr Issue kCannotCreate{2020, ExitCode::kIo, "cannot create the file"};
inline constexpr Issue kOutputExists{2021, ExitCode::kIo, "output exists"};
inline constexpr Issue kOutputInUse{2022, ExitCode::kIo, "output is in use by another process"};
inline constexpr Issue kOutputNotARegularFile{2023, ExitCode::kIo, "output is not a regular file"};
inline constexpr Issue kCannotWrite{2024, ExitCode::kIo, "cannot write"};
inline constexpr Issue kCannotReserve{2025, ExitCode::kIo, "cannot reserve space"};
inline constexpr Issue kCannotResize{2026, ExitCode::kIo, "cannot change the file size"};
inline constexpr Issue kCannotSync{2027, ExitCode::kIo, "cannot flush to storage"};
inline constexpr Issue kCannotClose{2028, ExitCode::kIo, "cannot close"};
inline constexpr Issue kCannotRename{2029, ExitCode::kIo, "cannot rename"};
inline constexpr Issue kCannotRemove{2030, ExitCode::kIo, "cannot remove"};
inline constexpr Issue kCannotCreateDirectory{2031, ExitCode::kIo, "cannot create the directory"};
inline constexpr Issue kOutputNotADirectory{2032, ExitCode::kIo, "output is not a directory"};
inline constexpr Issue kForeignPartial{2033, ExitCode::kIo, "in the way, and not left by an interrupted run"};

// JSON text, whatever the file.
inline constexpr Issue kJsonSyntax{3001, ExitCode::kInvalidInput, "not valid JSON"};
inline constexpr Issue kJsonDuplicateKey{3002, ExitCode::kInvalidInput, "duplicate key in a JSON object"};
inline constexpr Issue kJsonTooDeep{3003, ExitCode::kInvalidInput, "JSON nested too deeply"};
inline constexpr Issue kJsonTooLarge{3004, ExitCode::kInvalidInput, "JSON larger than the limit"};
inline constexpr Issue kJsonInteger{3005, ExitCode::kInvalidInput, "integer does not fit 64 bits"};

// Compressed chunks.
inline constexpr Issue kZstdFrame{7901, ExitCode::kCheckFailed, "not exactly one zstd frame of the expected form"};
inline constexpr Issue kZstdSize{7902, ExitCode::kCheckFailed, "zstd frame states a wrong content size"};
inline constexpr Issue kZstdDecode{7903, ExitCode::kCheckFailed, "zstd data is corrupt"};
inline constexpr Issue kZstdEncode{9101, ExitCode::kInternal, "zstd compression failed"};

}  // namespace q4
