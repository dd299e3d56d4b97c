// A checkpoint and the container that converting it gives, both on disk, made without the converter. Tests change one
// of them and ask whether the difference is found.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/base/file.h"
#include "tests/support/bytes.h"
#include "tests/support/provenance.h"
#include "tests/support/q4_builder.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/temp_dir.h"

namespace q4::test {

class ModelPair {
 public:
  Q4Builder container;  // of everything added; what is changed here the checkpoint does not know

  // Tensors of both. `bytes` are the elements as the checkpoint stores them.
  void AddQuantized(const std::string& name, DType dtype, const Shape& shape, const Bytes& bytes, Q4Scheme scheme,
                    std::uint32_t block_size, bool nested) {
    source_.Add(name, DTypeName(dtype), shape, AsText(bytes));
    container.AddQuantized(name, dtype, shape, bytes, scheme, block_size, nested);
  }
  void AddKept(const std::string& name, DType dtype, const Shape& shape, const Bytes& bytes) {
    source_.Add(name, DTypeName(dtype), shape, AsText(bytes));
    container.AddRaw(name, dtype, shape, bytes);
  }
  // A file beside the weights, which the container embeds.
  void AddFile(const std::string& name, const std::string& content) {
    dir_.Write("src/" + name, content);
    container.AddFile(name, content);
  }

  // Writes the checkpoint's weights, which only Add changes, and puts on record in `container` that it was made from
  // them. `keep_dtype`: of the recorded options.
  void WriteSource(const std::string& keep_dtype = "same") {
    dir_.Write("src/model.safetensors", source_.Build());
    std::vector<Q4Tensor> tensors;
    for (const BuiltTensor& tensor : container.tensors()) tensors.push_back(tensor.entry);
    container.provenance = ProvenanceOf(RecordedOptionsFor(tensors, keep_dtype),
                                        Json::array({SourceFileRecordOf(source(), "model.safetensors")}));
  }
  // Writes `container`, or a changed copy of it.
  void WriteContainer() { container.Write(PosixFileSystem(), path()); }
  void WriteContainer(Q4Builder changed) const { changed.Write(PosixFileSystem(), path()); }

  std::string source() const { return dir_.File("src"); }
  std::string path() const { return dir_.File("model.q4"); }  // of the container
  const TempDir& dir() const { return dir_; }

 private:
  TempDir dir_;
  SafetensorsBuilder source_;
};

}  // namespace q4::test
