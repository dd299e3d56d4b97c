// How long it takes until every tensor of a model is in memory, of this process or of a GPU.
//
//   load_bench MODEL.q4 [--memory host|cuda:N] [--form quantized|flat|source|f32|f16|bf16] [--check none|xxh3|sha256]
//              [--cold] [--repeat 7] [--threads N] [--slot-kib N] [--slots N] [--prefetch-mib N]
//              [--uncached]
//
// The first load is compared with what the container's reader gives, element by element; nothing is timed unless all is
// equal. A timed load opens the model, allocates, reads, checks and copies; starting the device is timed apart. With
// --cold the file's pages are dropped from the page cache before each load, and how much stayed is printed.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "formats/base/status.h"
#include "formats/q4/reader.h"
#include "kernels/kernels.h"
#include "libconvert/base/machine.h"
#include "libconvert/base/parallel.h"
#include "libconvert/load/load.h"
#include "libconvert/scheme/dtype_bridge.h"
#include "libconvert/scheme/scheme.h"

namespace {

using Clock = std::chrono::steady_clock;

double Seconds(Clock::time_point since) { return std::chrono::duration<double>(Clock::now() - since).count(); }

[[noreturn]] void Die(const std::string& message) {
  std::fprintf(stderr, "load_bench: %s\n", message.c_str());
  std::exit(1);
}

template <typename T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) Die(q4::MessageOf(value.status()));
  return *std::move(value);
}

template <typename T>
T Named(const std::map<std::string, T>& values, const std::string& name) {
  const auto at = values.find(name);
  if (at == values.end()) Die("unknown value '" + name + "'");
  return at->second;
}

struct Flags {
  std::string path, memory = "host", form = "quantized", check = "xxh3";
  bool cold = false;
  unsigned repeat = 7;
  q4::LoadOptions options;
};

Flags ParseFlags(int argc, char** argv) {
  Flags flags;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    const auto value = [&]() -> std::string { return i + 1 < argc ? argv[++i] : (Die(flag + " needs a value"), ""); };
    const auto number = [&] { return std::strtoull(value().c_str(), nullptr, 10); };
    if (flag == "--memory") {
      flags.memory = value();
    } else if (flag == "--form") {
      flags.form = value();
    } else if (flag == "--check") {
      flags.check = value();
    } else if (flag == "--cold") {
      flags.cold = true;
    } else if (flag == "--repeat") {
      flags.repeat = static_cast<unsigned>(std::max(1ull, number()));
    } else if (flag == "--threads") {
      flags.options.threads = static_cast<unsigned>(number());
    } else if (flag == "--slot-kib") {
      flags.options.slot_bytes = number() << 10;
    } else if (flag == "--slots") {
      flags.options.slots = static_cast<unsigned>(number());
    } else if (flag == "--uncached") {
      flags.options.uncached = true;
    } else if (flag == "--prefetch-mib") {
      flags.options.prefetch_bytes = number() << 20;
    } else if (flag.starts_with("--") || !flags.path.empty()) {
      Die("unknown argument " + flag);
    } else {
      flags.path = flag;
    }
  }
  if (flags.path.empty()) Die("which model?");
  flags.options.form = Named<q4::LoadForm>({{"quantized", q4::LoadForm::kQuantized},
                                            {"flat", q4::LoadForm::kFlatScales},
                                            {"source", q4::LoadForm::kSource},
                                            {"f32", q4::LoadForm::kF32},
                                            {"f16", q4::LoadForm::kF16},
                                            {"bf16", q4::LoadForm::kBF16}},
                                           flags.form);
  flags.options.check = Named<q4::LoadCheck>(
      {{"none", q4::LoadCheck::kNone}, {"xxh3", q4::LoadCheck::kXxh3}, {"sha256", q4::LoadCheck::kSha256}},
      flags.check);
  return flags;
}

// Drops the files' pages, which must be on disk, and says which share of them stayed.
double DropFromPageCache(const q4::Q4Model& model) {
  std::uint64_t pages = 0, resident = 0;
  for (const auto& shard : model.shards()) {
    const int fd = ::open(shard->path().c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0 || ::fsync(fd) != 0 || ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0) {
      Die("cannot drop the pages of " + shard->path());
    }
    const std::size_t bytes = shard->seal().file_bytes;
    void* const map = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0);
    std::vector<unsigned char> state((bytes + 4095) / 4096);
    if (map == MAP_FAILED || ::mincore(map, bytes, state.data()) != 0) Die("cannot ask for resident pages");
    ::munmap(map, bytes);
    ::close(fd);
    pages += state.size();
    resident += static_cast<std::uint64_t>(std::count_if(state.begin(), state.end(), [](auto s) { return s & 1; }));
  }
  return pages == 0 ? 0 : static_cast<double>(resident) / static_cast<double>(pages);
}

using Bytes = std::vector<std::uint8_t>;

template <typename T>
Bytes BytesOf(const std::vector<T>& values) {
  Bytes bytes(values.size() * sizeof(T));
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

bool Holds(q4::LoadMemory& memory, const void* at, const Bytes& expected) {
  Bytes got(expected.size());
  if (got.empty()) return true;
  if (at == nullptr || !memory.CopyToHost(at, got).ok()) return false;
  return got == expected;
}

// What the reader gives for a tensor, dequantized, or its scales decoded, by the scalar kernels if `tensor` is.
bool IsRight(const q4::Q4Model& model, q4::LoadMemory& memory, const q4::LoadedTensor& tensor) {
  const q4::Q4Model::Location& at = *model.Find(tensor.entry.name);
  const q4::Q4TensorData data = Must(q4::ReadQ4Tensor(model.reader(at), model.tensor(at)));
  if (tensor.entry.scheme == q4::Q4Scheme::kRaw) return Holds(memory, tensor.values, data.data);
  if (tensor.values == nullptr && (!tensor.entry.nested || tensor.scale_codes != nullptr)) {
    return Holds(memory, tensor.codes, data.codes) && Holds(memory, tensor.scales, BytesOf(data.scales)) &&
           Holds(memory, tensor.scale_codes, data.scale_codes) && Holds(memory, tensor.scales2, BytesOf(data.scales2));
  }
  const q4::ScopedFloatEnvironment environment;
  const q4::KernelTable& kernels = q4::ScalarKernels();
  std::vector<float> scales = data.scales;
  if (tensor.entry.nested) {
    scales.resize(tensor.entry.blocks());
    kernels.dequantize_scales(data.scale_codes.data(), data.scales2.data(), scales.size(), tensor.entry.nested_offset,
                              scales.data());
  }
  if (tensor.values == nullptr) {
    return Holds(memory, tensor.codes, data.codes) && Holds(memory, tensor.scales, BytesOf(scales));
  }
  Bytes values(tensor.value_bytes);
  kernels.dequantize(q4::CodeBookOf(tensor.entry), data.codes.data(), scales.data(), tensor.entry.elems,
                     tensor.entry.block_size, q4::FloatTypeOf(tensor.dtype), values.data());
  return Holds(memory, tensor.values, values);
}

void RequireRight(const q4::Q4Model& model, q4::LoadMemory& memory, const q4::LoadedModel& loaded) {
  if (loaded.tensors.size() != model.tensors().size()) Die("not all tensors were loaded");
  const absl::Status status = q4::ParallelInOrder(
      loaded.tensors.size(), q4::DefaultThreads(),
      [&](std::uint64_t i) { return IsRight(model, memory, loaded.tensors[i]); },
      [&](std::uint64_t i, bool right) -> absl::Status {
        return right ? absl::OkStatus() : absl::DataLossError(loaded.tensors[i].entry.name + " is not what was stored");
      });
  if (!status.ok()) Die(q4::MessageOf(status));
}

std::unique_ptr<q4::LoadMemory> MakeMemory(const std::string& name) {
  if (name == "host") return q4::MakeHostMemory();
  if (!name.starts_with("cuda:")) Die("--memory is host or cuda:N");
  return Must(q4::MakeCudaMemory(std::atoi(name.c_str() + 5)));
}

}  // namespace

int main(int argc, char** argv) {
  const Flags flags = ParseFlags(argc, argv);
  Clock::time_point start = Clock::now();
  const std::unique_ptr<q4::LoadMemory> memory = MakeMemory(flags.memory);
  const double start_seconds = Seconds(start);

  start = Clock::now();
  const auto model = Must(q4::Q4Model::Open(q4::PosixFileSystem(), flags.path));
  std::uint64_t bytes = 0;
  double first_seconds = 0;
  {
    const q4::LoadedModel loaded = Must(q4::LoadModel(*model, *memory, flags.options));
    first_seconds = Seconds(start);
    bytes = loaded.read_bytes;
    RequireRight(*model, *memory, loaded);
  }

  std::vector<double> seconds;
  double most_resident = 0;
  for (unsigned i = 0; i < flags.repeat; ++i) {
    if (flags.cold) most_resident = std::max(most_resident, DropFromPageCache(*model));
    start = Clock::now();
    const auto opened = Must(q4::Q4Model::Open(q4::PosixFileSystem(), flags.path));
    const q4::LoadedModel loaded = Must(q4::LoadModel(*opened, *memory, flags.options));
    seconds.push_back(Seconds(start));
  }
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  std::printf(
      "load %s into %s, %s, check %s, %s: median %.3f s of %u (%.3f to %.3f), %.2f GB/s of %.3f GB; "
      "%zu tensors, all equal\n",
      flags.path.c_str(), memory->name().c_str(), flags.form.c_str(), flags.check.c_str(), flags.cold ? "cold" : "warm",
      median, flags.repeat, seconds.front(), seconds.back(), static_cast<double>(bytes) / median * 1e-9,
      static_cast<double>(bytes) * 1e-9, model->tensors().size());
  std::printf("  device start %.3f s, first load %.3f s", start_seconds, first_seconds);
  if (flags.cold) std::printf(", at most %.2f %% of the file in the page cache before a load", 100 * most_resident);
  std::printf("\n");
  return 0;
}
