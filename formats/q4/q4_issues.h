// The rules of docs/format.md that readers, writer and validator of .q4 containers check. Exit code 6 says that a
// container is damaged, 5 that it needs a newer q4, 3 that the file is something else, 4 that q4 itself is at fault.
//
// Digests come first: where a digest is wrong that is reported, and what the bytes seem to say is not. A rule of
// structure is therefore broken only in a file whose digests were computed over the broken bytes, by a faulty or
// hostile writer.
#pragma once

#include "formats/base/status.h"

namespace q4 {

// Whole file. Without our magic it is some other file (exit code 3); with it, it is damaged (6) or newer than this
// build (5).
inline constexpr Issue kQ4NotAContainer{7001, ExitCode::kInvalidInput, "not a .q4 container"};
// A partial file under the name of a finished one, a download that broke off, or bytes behind the footer.
inline constexpr Issue kQ4IncompleteContainer{7002, ExitCode::kCheckFailed,
                                              "incomplete container: it does not end in a footer"};
inline constexpr Issue kQ4HeaderDamaged{7003, ExitCode::kCheckFailed, "header is damaged: its digest differs"};
inline constexpr Issue kQ4FooterDamaged{7004, ExitCode::kCheckFailed, "footer is damaged: its digest differs"};
inline constexpr Issue kQ4IndexDamaged{7005, ExitCode::kCheckFailed, "index is damaged: its digest differs"};
// XXH3 finds accidents and SHA-256 identifies, so both are checked (F7.6).
inline constexpr Issue kQ4RootDiffers{7006, ExitCode::kCheckFailed, "root is not the SHA-256 of header and index"};
inline constexpr Issue kQ4ReservedNotZero{7007, ExitCode::kCheckFailed, "reserved bytes are not zero"};
inline constexpr Issue kQ4HeaderField{7008, ExitCode::kCheckFailed, "header field is out of its range"};
inline constexpr Issue kQ4FooterField{7009, ExitCode::kCheckFailed, "footer does not describe this file"};
// What a later version of the format may add (F9.1); never reported of a file whose digest is wrong.
inline constexpr Issue kQ4NewerVersion{7010, ExitCode::kUnsupported, "container needs a newer version of q4"};
inline constexpr Issue kQ4UnknownFeature{7011, ExitCode::kUnsupported,
                                         "container needs a feature that this build does not know"};
inline constexpr Issue kQ4UnknownSection{7012, ExitCode::kUnsupported,
                                         "container needs an index section that this build does not know"};

// Index (section 5 of the format).
inline constexpr Issue kQ4SectionTable{7020, ExitCode::kCheckFailed,
                                       "section table of the index breaks a rule of the format"};
inline constexpr Issue kQ4SectionContent{7021, ExitCode::kCheckFailed,
                                         "section of the index does not have the size of its content"};
inline constexpr Issue kQ4TensorRecord{7022, ExitCode::kCheckFailed, "tensor record breaks a rule of the format"};
// Tensors and embedded files: what a record says, then the order of the records.
inline constexpr Issue kQ4TensorName{7023, ExitCode::kCheckFailed,
                                     "tensor name is not 1 to 4096 bytes of UTF-8 without NUL"};
inline constexpr Issue kQ4TensorOrder{7024, ExitCode::kCheckFailed, "tensor names are not unique and sorted"};
inline constexpr Issue kQ4TensorShape{7025, ExitCode::kCheckFailed, "tensor shape is out of its limits"};
inline constexpr Issue kQ4FileRecord{7026, ExitCode::kCheckFailed, "embedded file record breaks a rule of the format"};
inline constexpr Issue kQ4FileName{7027, ExitCode::kCheckFailed, "embedded file has a name that none may have"};
inline constexpr Issue kQ4FileOrder{7028, ExitCode::kCheckFailed, "embedded file names are not unique and sorted"};
// On a system that does not tell upper from lower case; a file beside a folder of its name is one nowhere.
inline constexpr Issue kQ4FileTwins{7640, ExitCode::kCheckFailed,
                                    "embedded files have names that cannot lie side by side"};
inline constexpr Issue kQ4Provenance{7030, ExitCode::kCheckFailed, "provenance is not UTF-8 of at most 16 MiB"};
// Its form (section 8) is checked by whoever reads it: a loader of tensors does not.
inline constexpr Issue kQ4ProvenanceForm{7630, ExitCode::kCheckFailed,
                                         "provenance is not the canonical document of its schema"};
inline constexpr Issue kQ4ProvenanceNewer{7631, ExitCode::kUnsupported,
                                          "provenance has a schema or arithmetic that needs a newer version of q4"};
inline constexpr Issue kQ4ProvenanceShards{7632, ExitCode::kCheckFailed,
                                           "shards of one model do not agree in their provenance"};
// Chunks: F3.1 (owners), F3.3 (places), F3.5 (sizes), section 4 (codecs).
inline constexpr Issue kQ4ChunkOwner{7031, ExitCode::kCheckFailed, "chunks do not have exactly one owner each"};
inline constexpr Issue kQ4ChunkPlace{7032, ExitCode::kCheckFailed, "chunk does not lie where the format puts it"};
inline constexpr Issue kQ4ChunkSize{7033, ExitCode::kCheckFailed, "chunk size does not follow from the shape"};
inline constexpr Issue kQ4ChunkCodec{7034, ExitCode::kCheckFailed, "chunk is not coded by the rules of the format"};

// Payload (F7.6, F3.6). Checked when a chunk is read, or when the container is verified.
inline constexpr Issue kQ4ChunkDamaged{7040, ExitCode::kCheckFailed, "stored bytes are damaged: their XXH3 differs"};
// The XXH3 is right: no accident, but other bytes under a recomputed digest.
inline constexpr Issue kQ4ChunkReplaced{7041, ExitCode::kCheckFailed,
                                        "stored bytes are damaged: their SHA-256 differs"};
inline constexpr Issue kQ4PaddingNotZero{7043, ExitCode::kCheckFailed, "padding is not zero"};
inline constexpr Issue kQ4ScaleValue{7044, ExitCode::kCheckFailed,
                                     "scale is NaN, infinite or of a sign that its encoder never gives"};
inline constexpr Issue kQ4PaddingNibble{7045, ExitCode::kCheckFailed, "padding nibble is not the code of zero"};

// Shards (section 10). The list is JSON that people may edit, so it is invalid input, not a damaged container.
inline constexpr Issue kQ4ShardList{7050, ExitCode::kInvalidInput, "list of shards breaks a rule of the format"};
inline constexpr Issue kQ4ShardDiffers{7051, ExitCode::kCheckFailed,
                                       "shard is not the one that the list of shards describes"};

// The caller has the root from elsewhere: a signature, a lock file.
inline constexpr Issue kQ4OtherRoot{7642, ExitCode::kCheckFailed, "not the model that was asked for: its root differs"};

// Requests that no container can fulfil. Exit code 4: the caller could have known from the index or the plan.
inline constexpr Issue kQ4NoSuchPart{7060, ExitCode::kInternal, "tensor has no such part"};
inline constexpr Issue kQ4NoSuchFile{7063, ExitCode::kInvalidInput, "container embeds no such file"};
inline constexpr Issue kQ4WriterMisuse{7061, ExitCode::kInternal,
                                       "container writer was given what does not follow the plan"};
// More tensors than one file can list.
inline constexpr Issue kQ4IndexTooLarge{7062, ExitCode::kUnsupported,
                                        "container index would exceed 256 MiB; use --shard-size"};

}  // namespace q4
