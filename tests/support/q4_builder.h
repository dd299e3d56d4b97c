// Makes .q4 containers from values in memory, with the scalar kernels and without the converter, so that tests can
// change what a container says (a code, a scale, a statistic) and write it again with right digests.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "formats/q4/parts.h"
#include "formats/q4/reader.h"
#include "formats/q4/writer.h"
#include "kernels/kernels.h"
#include "libconvert/model/stats.h"
#include "libconvert/scheme/slab.h"
#include "tests/support/bytes.h"
#include "tests/support/encode.h"

namespace q4::test {

struct BuiltTensor {
  Q4Tensor entry;
  Q4Stats stats;  // where entry.has_stats
  std::map<Q4Part, Bytes> parts;

  float* Floats(Q4Part part) { return reinterpret_cast<float*>(parts.at(part).data()); }
};

class Q4Builder {
 public:
  std::string provenance = R"({"numerics":"q4n-1","options":{},"source":{"files":[],"format":"safetensors"},)"
                           R"("tool":{"name":"tests","version":"1"}})";
  Q4Compression compression;

  // The container at `path`, ready to be changed and written again. Throws if it is damaged.
  static Q4Builder Load(FileSystem& fs, const std::string& path) {
    const auto reader = Get(Q4Reader::Open(fs, path));
    Q4Builder builder;
    builder.provenance = reader->index().provenance;
    for (const Q4Tensor& entry : reader->index().tensors) {
      BuiltTensor& tensor = builder.tensors_.emplace_back();
      tensor.entry = entry;
      if (entry.has_stats) tensor.stats = *entry.stats;
      for (const Q4PartEntry& part : entry.parts()) {
        if (part.raw_bytes != 0) tensor.parts[part.part] = Get(reader->ReadPart(entry, part.part));
      }
    }
    for (const Q4EmbeddedFile& file : reader->index().files) builder.files_[file.name] = Get(reader->ReadFile(file));
    return builder;
  }

  std::vector<BuiltTensor>& tensors() { return tensors_; }
  const std::map<std::string, std::string>& files() const { return files_; }

  // References stay valid until the next Add.
  BuiltTensor& AddRaw(const std::string& name, DType dtype, const Shape& shape, Bytes bytes) {
    BuiltTensor& tensor = NewTensor(name, dtype, shape);
    if (!bytes.empty()) tensor.parts[Q4Part::kData] = std::move(bytes);
    return tensor;
  }

  // Quantizes `bytes` with the absmax encoder and records the statistics.
  BuiltTensor& AddQuantized(const std::string& name, DType dtype, const Shape& shape, const Bytes& bytes,
                            Q4Scheme scheme, std::uint32_t block_size, bool nested) {
    BuiltTensor& tensor = NewTensor(name, dtype, shape);
    Q4Tensor& entry = tensor.entry;
    entry.scheme = scheme;
    entry.encoder = Q4Encoder::kAbsmax;
    entry.block_size = block_size;
    entry.nested = nested;
    entry.has_stats = true;
    const FloatType type = FloatTypeOf(dtype);
    const CodeBook book = CodeBookOf(scheme);
    Encoded encoded = Encode(type, book, bytes.data(), entry.elems, block_size, nested);
    if (encoded.first_bad != kAllFinite) throw std::runtime_error("test tensor holds NaN or infinity");
    if (nested) {
      entry.nested_offset = encoded.nested_offset;
      tensor.parts[Q4Part::kScaleCodes] = std::move(encoded.scale_codes);
      tensor.parts[Q4Part::kScales2] = BytesOf(encoded.scales2);
    } else {
      tensor.parts[Q4Part::kScales] = BytesOf(encoded.scales);
    }
    std::vector<GroupSums> groups(GroupCount(entry.blocks()));
    SlabStats slab;
    ScalarKernels().error_stats(type, book, bytes.data(), encoded.codes.data(), encoded.scales.data(), entry.elems,
                                block_size, groups.data(), &slab);
    TensorStatsAccumulator stats;
    stats.AddSlab(0, block_size, slab, groups);
    tensor.stats = stats.Finish();
    tensor.parts[Q4Part::kCodes] = std::move(encoded.codes);
    return tensor;
  }

  void AddFile(const std::string& name, const std::string& content) { files_[name] = content; }

  BuiltTensor& Find(const std::string& name) {
    for (BuiltTensor& tensor : tensors_) {
      if (tensor.entry.name == name) return tensor;
    }
    throw std::runtime_error("no tensor " + name);
  }
  void Remove(const std::string& name) {
    std::erase_if(tensors_, [&](const BuiltTensor& tensor) { return tensor.entry.name == name; });
  }

  Q4Seal Write(FileSystem& fs, const std::string& path) {
    std::sort(tensors_.begin(), tensors_.end(),
              [](const BuiltTensor& a, const BuiltTensor& b) { return a.entry.name < b.entry.name; });
    Q4Index plan;
    plan.file_id.fill(0x5A);
    for (const BuiltTensor& tensor : tensors_) plan.tensors.push_back(tensor.entry);
    for (const auto& [name, content] : files_) {
      Q4EmbeddedFile file;
      file.name = name;
      file.raw_bytes = content.size();
      plan.files.push_back(file);
    }
    auto file = Get(fs.OpenLocked(path));
    Check(file->Truncate(0));
    const auto writer = Get(Q4Writer::Create(file.get(), plan));
    std::size_t number = 0;
    for (const auto& [name, content] : files_) {
      Check(writer->BeginFile(number));
      std::uint64_t chunk = 0;
      Append(*writer, {Q4ChunkPlace::Section::kFile, number++, 0}, Bytes(content.begin(), content.end()), kQ4ChunkBytes,
             1, &chunk);
    }
    for (std::size_t t = 0; t < tensors_.size(); ++t) {
      const BuiltTensor& tensor = tensors_[t];
      Check(writer->BeginTensor(t));
      std::uint64_t chunk = 0;
      for (const Q4Part part : Q4PartKindsOf(tensor.entry)) {
        const auto bytes = tensor.parts.find(part);
        if (bytes == tensor.parts.end()) continue;
        Check(writer->BeginPart(part));
        Append(*writer, {Q4ChunkPlace::Section::kTensor, t, 0}, bytes->second, Q4ChunkRawSize(part),
               Q4PlaneBytes(tensor.entry, part), &chunk);
      }
      if (tensor.entry.scheme != Q4Scheme::kRaw) {
        writer->SetTensorResult(t, tensor.entry.nested, tensor.entry.nested_offset,
                                tensor.entry.has_stats ? &tensor.stats : nullptr);
      }
    }
    const Q4Seal seal = Get(writer->Finish(provenance));
    Check(file->Close());
    return seal;
  }

 private:
  static void Check(const absl::Status& status) {
    if (!status.ok()) throw std::runtime_error(status.ToString());
  }
  template <typename T>
  static T Get(absl::StatusOr<T> value) {
    Check(value.status());
    return *std::move(value);
  }

  BuiltTensor& NewTensor(const std::string& name, DType dtype, const Shape& shape) {
    BuiltTensor& tensor = tensors_.emplace_back();
    tensor.entry.name = name;
    tensor.entry.dtype = dtype;
    tensor.entry.shape = shape;
    tensor.entry.elems = 1;
    for (const std::uint64_t dim : shape) tensor.entry.elems *= dim;
    return tensor;
  }

  // Cuts `bytes` into chunks; `*chunk` counts over all chunks of the owner.
  void Append(Q4Writer& writer, Q4ChunkPlace place, const Bytes& bytes, std::uint64_t chunk_bytes, std::uint8_t planes,
              std::uint64_t* chunk) const {
    for (std::uint64_t begin = 0; begin < bytes.size(); begin += chunk_bytes) {
      const std::uint64_t end = std::min<std::uint64_t>(bytes.size(), begin + chunk_bytes);
      place.chunk = (*chunk)++;
      Check(writer.Append(Get(EncodeQ4Chunk(
          writer.index().file_id, place,
          Bytes(bytes.begin() + static_cast<std::ptrdiff_t>(begin), bytes.begin() + static_cast<std::ptrdiff_t>(end)),
          planes, compression))));
    }
  }

  std::vector<BuiltTensor> tensors_;
  std::map<std::string, std::string> files_;
};

}  // namespace q4::test
