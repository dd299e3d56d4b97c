// Every hard limit on what a file may claim. A limit bounds memory and time before anything is allocated: a reader
// compares the claim with it first. Each names what it is anchored to. Bytes unless the name says otherwise, and the
// limit itself is allowed unless "exclusive" is said. docs/safety.md lists them for users; a file beyond a limit is
// refused with a message that names it.
#pragma once

#include <cstdint>

namespace q4::limits {

// Checkpoints.
//
// The reference reader's MAX_HEADER_SIZE. The header is parsed as a stream, so it never lies in memory whole.
inline constexpr std::uint64_t kSafetensorsHeaderBytes = 100'000'000;
// Far above any model. Also of a container.
inline constexpr std::uint64_t kTensorsPerCheckpoint = 1'000'000;
// GGUF allows 64.
inline constexpr std::uint64_t kTensorNameBytes = 4096;
// GGML has 4.
inline constexpr int kTensorDimensions = 8;
// Exclusive. Counts are exact in a double, and times the largest item size they are far from wrapping 64 bits.
inline constexpr std::uint64_t kTensorElements = std::uint64_t{1} << 48;
// Header, tensor and its arrays of dimensions and offsets need 3.
inline constexpr int kSafetensorsJsonDepth = 4;
// The shard list of a container needs 3, the shard index of a checkpoint 2.
inline constexpr int kIndexJsonDepth = 3;
// Provenance and reports are free-form. The bound keeps recursion over the parsed value off the end of the stack.
inline constexpr int kConfigJsonDepth = 64;
// config.json and what else loaders read with Python's json, which gives up at its limit on recursion.
inline constexpr int kModelJsonDepth = 1000;
// Of JSON files for people, which are parsed into values: config.json, recipes, gate files.
inline constexpr std::uint64_t kConfigJsonBytes = 16u << 20;
// Of memory that such a value may take: the shortest texts take 32 times their size. With the text it stays under the
// overhead beside --max-memory. The largest configurations, lists of 22,000 labels, take 8 MiB.
inline constexpr std::uint64_t kJsonValueBytes = 32u << 20;
// The same of a report given as --baseline, which q4 wrote: 64 MiB of text.
inline constexpr std::uint64_t kReportValueBytes = 1u << 30;
// What is kept of `__metadata__` of safetensors, free-form text: of one key or value, and of all. Longer ones are read
// and shortened.
inline constexpr std::uint64_t kMetadataValueBytes = 64u << 10;
inline constexpr std::uint64_t kMetadataTotalBytes = 1u << 20;
// The same of a calibration file, in which the names of all weights stand, and refused beyond it: 45,000 experts take 5
// MiB.
inline constexpr std::uint64_t kCalibrationMetadataBytes = 8u << 20;
// Of a PyTorch archive: one for each storage, and a few more.
inline constexpr std::uint64_t kZipEntries = 1'000'000;
// The pickle of a PyTorch archive, which is held whole: 200 bytes for each tensor of a model or optimizer.
inline constexpr std::uint64_t kPickleBytes = 64u << 20;
// What it may make, and remember: some 15 values for each tensor. They take up to 160 MB.
inline constexpr std::uint64_t kPickleValues = 4'000'000;
inline constexpr std::uint64_t kPickleStack = 1'000'000;
// The largest public models have about 200. A shard is an open file while a model is read.
inline constexpr std::uint64_t kShards = 10'000;
// A million tensors with names of 200 bytes.
inline constexpr std::uint64_t kShardIndexBytes = 256u << 20;
// GGUF: key-values, what one holds, and what is kept of all keys while they are compared. GGML itself caps arrays and
// texts at 1 GiB; vocabularies have some 260,000 short texts. Every length is also held against the bytes that remain.
inline constexpr std::uint64_t kGgufKeyValues = 65'536;
inline constexpr std::uint64_t kGgufKeyBytes = 4u << 20;
inline constexpr std::uint64_t kGgufStringBytes = 64u << 20;
inline constexpr std::uint64_t kGgufArrayElements = 16u << 20;
// GGML_MAX_DIMS.
inline constexpr std::uint32_t kGgufDimensions = 4;
// A power of two between these. Files have 32.
inline constexpr std::uint64_t kGgufLeastAlignment = 8;
inline constexpr std::uint64_t kGgufMostAlignment = 65'536;
// Folders of a model's modules (modules.json, Routers). Models have fewer than ten.
inline constexpr std::uint64_t kModuleFolders = 256;
// Components of a pipeline, and files of all of them together. Pipelines have about ten, with a hundred files.
inline constexpr std::uint64_t kComponents = 256;
inline constexpr std::uint64_t kPipelineFiles = 20'000;
// How deep below the model's folder companions are looked for: a Router's modules and their templates need 3.
inline constexpr int kFolderDepth = 3;
// Of files in a folder that is left out: so many are counted, and so deep.
inline constexpr std::uint64_t kCountedFiles = 10'000;
inline constexpr int kCountedDepth = 8;
// Containers (docs/format.md section 11).
//
// Companions of a model: configuration, tokenizer, templates. Models have a few dozen.
inline constexpr std::uint64_t kEmbeddedFiles = 1'000;
// The largest tokenizers have about 40 MB.
inline constexpr std::uint64_t kEmbeddedFileBytes = 256u << 20;
// Of all together, unpacked: what a small file may make a tool write.
inline constexpr std::uint64_t kEmbeddedTotalBytes = std::uint64_t{1} << 30;
// Of an embedded file's name: a component, as file systems have it; all of it; and its components, where models have
// at most kFolderDepth folders and a file. 1,000 files make 7,000 folders at the most.
inline constexpr std::uint64_t kFileNameBytes = 255;
inline constexpr std::uint64_t kFilePathBytes = 1024;
inline constexpr int kFilePathDepth = 8;
// Read whole when a container is opened. 4 million chunks, 64 bytes each, with nothing else.
inline constexpr std::uint64_t kQ4IndexBytes = 256u << 20;
// Uncompressed. The format itself sets 8 MiB (F3.5).
inline constexpr std::uint64_t kQ4ChunkRawBytes = 64u << 20;
// As a power of 2: 64 MiB, what a decoder may have to keep of a frame (F4.2).
inline constexpr int kZstdWindowLog = 26;

}  // namespace q4::limits
