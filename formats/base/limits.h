// Every hard limit on what a file may claim. A limit bounds memory and time before anything is allocated; each names
// what it is anchored to. docs/safety.md lists them.
#pragma once

#include <cstdint>

namespace q4::limits {

inline constexpr std::uint64_t kSafetensorsHeaderBytes = 100'000'000;  // the reference reader's MAX_HEADER_SIZE
inline constexpr std::uint64_t kTensorsPerCheckpoint = 1'000'000;      // far above any model
inline constexpr std::uint64_t kTensorNameBytes = 4096;
inline constexpr int kTensorDimensions = 8;
inline constexpr std::uint64_t kTensorElements = std::uint64_t{1} << 48;  // exact in a double (exclusive)
inline constexpr int kSafetensorsJsonDepth = 4;                           // shape arrays need 3
inline constexpr int kIndexJsonDepth = 3;
inline constexpr int kConfigJsonDepth = 64;  // config.json is free-form
inline constexpr std::uint64_t kConfigJsonBytes = 16u << 20;
inline constexpr std::uint64_t kMetadataValueBytes = 64u << 10;
inline constexpr std::uint64_t kMetadataTotalBytes = 1u << 20;
inline constexpr std::uint64_t kShards = 10'000;  // the largest public models have about 200
inline constexpr std::uint64_t kShardIndexBytes = 256u << 20;
inline constexpr std::uint64_t kEmbeddedFiles = 1'000;
inline constexpr std::uint64_t kEmbeddedFileBytes = 256u << 20;  // the largest tokenizers are about 40 MB
inline constexpr std::uint64_t kQ4IndexBytes = 256u << 20;
inline constexpr std::uint64_t kQ4ChunkRawBytes = 64u << 20;
inline constexpr int kZstdWindowLog = 26;

}  // namespace q4::limits
