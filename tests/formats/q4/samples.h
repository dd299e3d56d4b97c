// Small containers for the tests of formats/q4_*, and the means to forge them: to change what a file says and to
// compute all digests anew, as an attacker would.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "formats/q4/container.h"
#include "formats/q4/layout.h"
#include "formats/q4/reader.h"
#include "formats/q4/verify.h"
#include "formats/q4/writer.h"
#include "tests/support/bytes.h"
#include "tests/support/memory_file_system.h"

namespace q4 {

// A plan and the raw bytes of everything in it.
struct Q4Sample {
  Q4Index plan;
  std::vector<std::size_t> payload_order;
  std::map<std::string, std::map<Q4Part, test::Bytes>> parts;  // of each tensor
  std::vector<std::string> files;                              // contents, in the order of plan.files
  std::string provenance = R"({"numerics":"q4n-1","options":{},"source":{"files":[],"format":"safetensors"},)"
                           R"("tool":{"name":"tests","version":"1"}})";
  Q4Compression compression;

  // Adds a tensor whose parts are filled with bytes that depend on its name; scales are positive and finite, padding
  // nibbles right. The caller sorts with Sort().
  void Add(Q4Tensor tensor);
  void AddFile(const std::string& name, const std::string& content);
  // Puts tensors and files in the order of the format. The payload order becomes the reverse of the index order.
  void Sort();
};

Q4Tensor RawTensor(const std::string& name, DType dtype, Shape shape);
Q4Tensor QuantizedTensor(const std::string& name, Q4Scheme scheme, Shape shape, std::uint32_t block_size, bool nested);

// The file that docs/format.md shows in hexadecimal, testdata/q4/v1_two_tensors.q4.
Q4Sample TwoTensorSample();
// One raw and one quantized tensor: 3 KiB of header, index and payload beside the padding.
Q4Sample SmallSample();
// Every kind of tensor and part, an empty tensor, a scalar and embedded files.
Q4Sample FullSample();

// Shard 0 or 1 of a model of two shards, made from three source files: the middle one was read for both.
Q4Sample ShardSample(std::uint32_t shard);

// The container's bytes. REQUIREs success.
test::Bytes WriteSample(const Q4Sample& sample);
test::Bytes RawBytes(const Q4Sample& sample, const Q4Tensor& tensor, Q4Part part);

// Opens `bytes` as "t.q4" of a file system of its own.
struct OpenedSample {
  std::unique_ptr<MemoryFileSystem> fs;
  absl::StatusOr<std::unique_ptr<Q4Reader>> reader;
};
OpenedSample OpenSample(test::Bytes bytes);
// The first problem of opening and verifying every byte.
absl::Status VerifySample(test::Bytes bytes);

// The regions of a container, to be changed and put together again with valid digests.
struct ForgedContainer {
  explicit ForgedContainer(const test::Bytes& bytes);
  Q4Header header;
  test::Bytes payload;  // from the end of the header to the index
  test::Bytes index;
  // What the footer says is adjusted by this after it was computed and before its digest.
  std::function<void(Q4Footer*)> edit_footer = [](Q4Footer*) {};

  // Replaces the index by what `edit` makes of its decoded form.
  void EditIndex(const std::function<void(Q4Index*)>& edit);
  void EditChunks(const std::function<void(std::vector<Q4Chunk>*)>& edit);
  test::Bytes Seal() const;
};

}  // namespace q4
