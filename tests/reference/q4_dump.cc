// Decodes .q4 files with the C++ reader and the scalar kernels and prints the JSON that q4ref.py prints for them; or,
// with --names, judges names of embedded files.
#include <iostream>
#include <span>
#include <string>
#include <vector>

#include "formats/base/json_value.h"
#include "formats/base/status.h"
#include "formats/names/portable_names.h"
#include "formats/q4/file_names.h"
#include "formats/q4/reader.h"
#include "formats/q4/verify.h"
#include "kernels/kernels.h"
#include "libconvert/scheme/dtype_bridge.h"
#include "libconvert/scheme/scheme.h"
#include "tests/support/bytes.h"

namespace q4 {
namespace {

std::string Sha256Hex(std::span<const std::uint8_t> bytes) { return HexOf(Sha256Of(bytes)); }

// The tensor as fp32.
std::vector<float> Decode(const Q4Tensor& tensor, const Q4TensorData& data) {
  const KernelTable& kernels = ScalarKernels();
  std::vector<float> values(tensor.elems);
  if (tensor.scheme == Q4Scheme::kRaw) {
    kernels.convert(FloatTypeOf(tensor.dtype), data.data.data(), tensor.elems, FloatType::kF32, values.data());
    return values;
  }
  std::vector<float> scales = data.scales;
  if (tensor.nested) {
    scales.resize(tensor.blocks());
    kernels.dequantize_scales(data.scale_codes.data(), data.scales2.data(), tensor.blocks(), tensor.nested_offset,
                              scales.data());
  }
  kernels.dequantize(CodeBookOf(tensor), data.codes.data(), scales.data(), tensor.elems, tensor.block_size,
                     FloatType::kF32, values.data());
  return values;
}

absl::StatusOr<Json> TensorReport(const Q4Reader& reader, const Q4Tensor& tensor) {
  Json report = Json::object();
  report["dtype"] = static_cast<int>(tensor.dtype);
  report["shape"] = tensor.shape;
  report["parts"] = Json::object();
  for (const Q4PartEntry& part : tensor.parts()) {
    Q4_ASSIGN_OR_RETURN(const std::vector<std::uint8_t> bytes, reader.ReadPart(tensor, part.part));
    report["parts"][Q4PartName(part.part)] = Sha256Hex(bytes);
  }
  if (tensor.scheme == Q4Scheme::kRaw && !IsQuantizable(tensor.dtype)) {
    report["values"] = nullptr;
    return report;
  }
  Q4_ASSIGN_OR_RETURN(const Q4TensorData data, ReadQ4Tensor(reader, tensor));
  const std::vector<float> values = Decode(tensor, data);
  report["values"] = Sha256Hex(test::BytesOf(values));
  return report;
}

absl::StatusOr<Json> FileReport(const std::string& path) {
  Q4_ASSIGN_OR_RETURN(const auto reader, Q4Reader::Open(PosixFileSystem(), path));
  Q4_RETURN_IF_ERROR(VerifyQ4Container(*reader));
  Json report = Json::object();
  report["root"] = HexOf(reader->seal().root);
  report["provenance"] = Sha256Hex(test::AsBytes(reader->index().provenance));
  report["files"] = Json::object();
  for (const Q4EmbeddedFile& file : reader->index().files) {
    Q4_ASSIGN_OR_RETURN(const std::string content, reader->ReadFile(file));
    report["files"][file.name] = Sha256Hex(test::AsBytes(content));
  }
  report["tensors"] = Json::object();
  for (const Q4Tensor& tensor : reader->index().tensors) {
    Q4_ASSIGN_OR_RETURN(report["tensors"][tensor.name], TensorReport(*reader, tensor));
  }
  return report;
}

// A JSON array of strings from each line of standard input: whether these names may be those of a container's files.
int JudgeNames() {
  for (std::string line; std::getline(std::cin, line);) {
    const auto names = ParseModelJson(line, "stdin");
    if (!names.ok()) return 1;
    PortableNames beside;
    bool good = true;
    for (const Json& item : *names) {
      const auto& name = item.get_ref<const std::string&>();
      good = good && Q4FileNameProblem(name).empty() && beside.Add(name).empty();
    }
    std::cout << (good ? "1\n" : "0\n");
  }
  return 0;
}

}  // namespace
}  // namespace q4

int main(int argc, char** argv) {
  if (argc == 2 && std::string(argv[1]) == "--names") return q4::JudgeNames();
  q4::Json reports = q4::Json::object();
  for (int i = 1; i < argc; ++i) {
    auto report = q4::FileReport(argv[i]);
    if (!report.ok()) {
      std::cerr << q4::MessageOf(report.status()) << "\n";
      return static_cast<int>(q4::ExitCodeOf(report.status()));
    }
    reports[argv[i]] = *std::move(report);
  }
  std::cout << q4::DumpSorted(reports) << "\n";
  return 0;
}
