// The rules checked in formats/base: files and output (2xxx), JSON text (30xx), compressed chunks (79xx). The wording
// of a rule is completed by the file, the place and "got X, expected Y" (status.h); a comment below says when a rule is
// broken where its wording leaves that open.
#pragma once

#include "formats/base/status.h"

namespace q4 {

// Reading files. A system call that fails is exit code 2; a file that is not what a reader can accept is 3.
inline constexpr Issue kCannotOpen{2001, ExitCode::kIo, "cannot open the file"};
inline constexpr Issue kCannotRead{2002, ExitCode::kIo, "cannot read"};
// A directory, FIFO, device or socket at the path of an input.
inline constexpr Issue kNotARegularFile{2003, ExitCode::kInvalidInput, "not a regular file"};
// A shard or companion of a checkpoint directory is a link: it might lead anywhere on the machine, and its content
// would be embedded in the output.
inline constexpr Issue kSymbolicLink{2004, ExitCode::kInvalidInput,
                                     "symbolic links are not followed without --follow-symlinks"};
// A read reaches behind the end: the file was always too short, or was truncated since it was opened.
inline constexpr Issue kFileEndsEarly{2005, ExitCode::kInvalidInput, "file ends early"};
// The version is no longer that at open (FileVersion).
inline constexpr Issue kFileChanged{2006, ExitCode::kInvalidInput, "input changed while reading"};
// Of files that are read whole into memory; the limits are in limits.h.
inline constexpr Issue kFileTooLarge{2007, ExitCode::kInvalidInput, "file is larger than the limit"};
inline constexpr Issue kCannotStat{2008, ExitCode::kIo, "cannot get information about the path"};
inline constexpr Issue kCannotList{2009, ExitCode::kIo, "cannot list the directory"};

// Writing files. All are exit code 2: neither the command line nor an input is at fault.
inline constexpr Issue kCannotCreate{2020, ExitCode::kIo, "cannot create the file"};
// Also when the file or directory appeared after the early check and the final rename finds it.
inline constexpr Issue kOutputExists{2021, ExitCode::kIo, "output exists"};
// Another process holds the lock on the partial file.
inline constexpr Issue kOutputInUse{2022, ExitCode::kIo, "output is in use by another process"};
// A directory, device, FIFO or symbolic link where a file is to be written.
inline constexpr Issue kOutputNotARegularFile{2023, ExitCode::kIo, "output is not a regular file"};
inline constexpr Issue kCannotWrite{2024, ExitCode::kIo, "cannot write"};
// Mostly a full disk or a quota, noticed before any work is lost.
inline constexpr Issue kCannotReserve{2025, ExitCode::kIo, "cannot reserve space"};
inline constexpr Issue kCannotResize{2026, ExitCode::kIo, "cannot change the file size"};
// Final: what the failed fsync covered may be lost, so the output is given up.
inline constexpr Issue kCannotSync{2027, ExitCode::kIo, "cannot flush to storage"};
inline constexpr Issue kCannotClose{2028, ExitCode::kIo, "cannot close"};
inline constexpr Issue kCannotRename{2029, ExitCode::kIo, "cannot rename"};
inline constexpr Issue kCannotRemove{2030, ExitCode::kIo, "cannot remove"};
inline constexpr Issue kCannotCreateDirectory{2031, ExitCode::kIo, "cannot create the directory"};
// A file, device or symbolic link where a directory is to be published.
inline constexpr Issue kOutputNotADirectory{2032, ExitCode::kIo, "output is not a directory"};
// Of NAME.partial where a directory is to be filled: it holds files but not our lock, so it may be the user's own.
inline constexpr Issue kForeignPartial{2033, ExitCode::kIo, "in the way, and not left by an interrupted run"};
// Of what an interrupted run left under a predictable name, in a folder that others may write: it might be theirs, or
// hold what they wrote.
inline constexpr Issue kForeignOwner{2610, ExitCode::kIo, "another user made this or may change it"};
// Caught by those who open outputs (atomic_file.h): they go on under a name of their own.
inline constexpr Issue kCannotLock{2560, ExitCode::kIo, "the file system has no locks"};
// Tried on an empty file before the work (TryPublishing(), AtomicDirectory::Create()).
inline constexpr Issue kCannotPublish{2561, ExitCode::kIo,
                                      "no file can get its name here; write to another file system and copy"};

// JSON text, whatever the file. See strict_json.h for what is refused beyond RFC 8259.
inline constexpr Issue kJsonSyntax{3001, ExitCode::kInvalidInput, "not valid JSON"};
// Also where the two keys are spelled differently, with \u escapes; parsers disagree on which of the two counts.
inline constexpr Issue kJsonDuplicateKey{3002, ExitCode::kInvalidInput, "duplicate key in a JSON object"};
inline constexpr Issue kJsonTooDeep{3003, ExitCode::kInvalidInput, "JSON nested too deeply"};
// A token of the text, or a document that is read whole.
inline constexpr Issue kJsonTooLarge{3004, ExitCode::kInvalidInput, "JSON larger than the limit"};
// It is refused and not rounded to a double: 2^64 read as 18446744073709552000 would pass for a size.
inline constexpr Issue kJsonInteger{3005, ExitCode::kInvalidInput, "integer does not fit 64 bits"};

// Compressed chunks (F4.2). Their digest was right, so a broken rule means a damaged or hostile container.
inline constexpr Issue kZstdFrame{7901, ExitCode::kCheckFailed, "not exactly one zstd frame of the expected form"};
// The size that the index determines decides; a frame that claims another would make readers allocate by its claim.
inline constexpr Issue kZstdSize{7902, ExitCode::kCheckFailed, "zstd frame states a wrong content size"};
inline constexpr Issue kZstdDecode{7903, ExitCode::kCheckFailed, "zstd data is corrupt"};
// Compressing, not decompressing: libzstd refused a parameter or had no memory.
inline constexpr Issue kZstdEncode{9101, ExitCode::kInternal, "zstd compression failed"};

}  // namespace q4
