// The example of docs/loading.md, between the two lines of dashes word for word. Argument: a container.
// ----
#include <cstdio>
#include <string>

#include "formats/base/status.h"
#include "formats/q4/reader.h"
#include "libconvert/load/load.h"
#include "libconvert/load/memory.h"

absl::Status PrintTensors(const std::string& path) {
  Q4_ASSIGN_OR_RETURN(const auto model, q4::Q4Model::Open(q4::PosixFileSystem(), path));
  // The first GPU, or this process's memory where there is none.
  auto gpu = q4::MakeCudaMemory(0);
  const auto memory = gpu.ok() ? *std::move(gpu) : q4::MakeHostMemory();

  q4::LoadOptions options;
  options.form = q4::LoadForm::kBF16;  // or kQuantized, for kernels that take codes and scales
  Q4_ASSIGN_OR_RETURN(const q4::LoadedModel loaded, q4::LoadModel(*model, *memory, options));

  for (const q4::LoadedTensor& tensor : loaded.tensors) {
    std::printf("%s %s %s at %p in %s\n", tensor.entry.name.c_str(), q4::ShapeString(tensor.entry.shape).c_str(),
                std::string(q4::DTypeName(tensor.dtype)).c_str(), static_cast<const void*>(tensor.values),
                memory->name().c_str());
  }
  return absl::OkStatus();
}  // the memory of the tensors is freed with `loaded`

int main(int argc, char** argv) {
  const absl::Status status = PrintTensors(argc > 1 ? argv[1] : "model.q4");
  if (!status.ok()) std::fprintf(stderr, "%s\n", q4::MessageOf(status).c_str());
  return static_cast<int>(q4::ExitCodeOf(status));
}
// ----
