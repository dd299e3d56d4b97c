#include "tests/libconvert/load/load_testing.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "formats/base/file.h"
#include "formats/base/status.h"
#include "formats/q4/q4_issues.h"
#include "formats/q4/shards.h"
#include "kernels/kernels.h"
#include "libconvert/scheme/dtype_bridge.h"
#include "libconvert/scheme/scheme.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/must.h"

namespace q4 {
namespace {

constexpr std::uint8_t kPoison = 0xEE;

class CountedBlock final : public MemoryBlock {
 public:
  CountedBlock(std::unique_ptr<MemoryBlock> block, std::atomic<int>* live)
      : MemoryBlock(block->data(), block->bytes()), block_(std::move(block)), live_(live) {
    ++*live_;
    if (bytes() != 0) std::memset(data(), kPoison, bytes());
  }
  ~CountedBlock() override { --*live_; }

 private:
  std::unique_ptr<MemoryBlock> block_;
  std::atomic<int>* live_;
};

class LateQueue final : public CopyQueue {
 public:
  LateQueue(RingMemory* memory, unsigned slots, std::uint64_t slot_bytes)
      : memory_(memory),
        slot_bytes_(slot_bytes),
        bytes_(static_cast<std::uint8_t*>(std::aligned_alloc(4096, slots * slot_bytes)), &std::free),
        pending_(slots) {
    std::memset(bytes_.get(), kPoison, slots * slot_bytes);
    ++memory_->live;
  }
  ~LateQueue() override {
    for (unsigned slot = 0; slot < pending_.size(); ++slot) Finish(slot);
    --memory_->live;
  }

  std::uint8_t* slots() override { return bytes_.get(); }
  absl::Status Copy(unsigned slot, std::uint64_t skip, std::uint64_t bytes, std::uint8_t* to) override {
    if (skip + bytes > slot_bytes_ || pending_[slot].to != nullptr) return absl::InternalError("the slot is not free");
    if (absl::Status status = memory_->NextOperation(); !status.ok()) return status;
    ++memory_->copies;
    pending_[slot] = {to, skip, bytes};
    return absl::OkStatus();
  }
  absl::Status Wait(unsigned slot) override {
    if (absl::Status status = memory_->NextOperation(); !status.ok()) return status;
    Finish(slot);
    return absl::OkStatus();
  }

 private:
  struct Pending {
    std::uint8_t* to = nullptr;
    std::uint64_t skip = 0, bytes = 0;
  };
  void Finish(unsigned slot) {
    const Pending copy = std::exchange(pending_[slot], {});
    std::uint8_t* const from = bytes_.get() + slot * slot_bytes_;
    if (copy.to != nullptr) std::memcpy(copy.to, from + copy.skip, copy.bytes);
    std::memset(from, kPoison, slot_bytes_);
  }

  RingMemory* memory_;
  std::uint64_t slot_bytes_;
  std::unique_ptr<std::uint8_t, void (*)(void*)> bytes_;  // aligned for uncached reads
  std::vector<Pending> pending_;
};

DType ExpectedType(const Q4Tensor& tensor, LoadForm form) {
  if (form == LoadForm::kF32) return DType::kF32;
  if (form == LoadForm::kF16) return DType::kF16;
  return form == LoadForm::kBF16 ? DType::kBF16 : tensor.dtype;
}

template <typename T>
void RequireBytes(LoadMemory& memory, const T* at, const std::vector<T>& expected) {
  REQUIRE((at == nullptr) == expected.empty());
  if (at == nullptr) return;
  std::vector<T> got(expected.size());
  const std::span bytes(reinterpret_cast<std::uint8_t*>(got.data()), got.size() * sizeof(T));
  REQUIRE(memory.CopyToHost(at, bytes).ok());
  REQUIRE(std::memcmp(got.data(), expected.data(), bytes.size()) == 0);
}

std::vector<float> ScalesByReference(const Q4Tensor& tensor, const Q4TensorData& data) {
  std::vector<float> scales = data.scales;
  if (tensor.nested) {
    scales.resize(tensor.blocks());
    ScalarKernels().dequantize_scales(data.scale_codes.data(), data.scales2.data(), scales.size(), tensor.nested_offset,
                                      scales.data());
  }
  return scales;
}

test::Bytes DequantizedByReference(const Q4Tensor& tensor, const Q4TensorData& data, DType dtype) {
  const KernelTable& kernels = ScalarKernels();
  const std::vector<float> scales = ScalesByReference(tensor, data);
  test::Bytes values(tensor.elems * ItemSize(dtype));
  kernels.dequantize(CodeBookOf(tensor), data.codes.data(), scales.data(), tensor.elems, tensor.block_size,
                     FloatTypeOf(dtype), values.data());
  return values;
}

}  // namespace

std::unique_ptr<Q4Model> ModelFiles::Open() { return test::Must(Q4Model::Open(fs, path)); }

Q4Sample LoaderSample() {
  Q4Sample sample = FullSample();
  for (int dtype = 1; dtype <= kMaxDType; ++dtype) {
    const auto type = static_cast<DType>(dtype);
    sample.Add(RawTensor("kept." + std::string(DTypeName(type)), type, {static_cast<std::uint64_t>(dtype), 7}));
  }
  sample.Add(RawTensor("large.kept", DType::kBF16, {4300, 1000}));
  sample.Add(QuantizedTensor("large.nested", Q4Scheme::kNf4, {4200, 1001}, 32, true));
  Q4Tensor odd = QuantizedTensor("odd.plain", Q4Scheme::kFp4, {701, 1001}, 64, false);
  odd.dtype = DType::kF16;
  sample.Add(odd);
  sample.Sort();
  return sample;
}

std::unique_ptr<ModelFiles> OneFile(const Q4Sample& sample) {
  auto files = std::make_unique<ModelFiles>();
  files->path = "m.q4";
  files->fs[files->path] = WriteSample(sample);
  return files;
}

std::unique_ptr<ModelFiles> TwoShards() {
  auto files = std::make_unique<ModelFiles>();
  files->path = "dir/m.q4.index.json";
  Q4ShardList list;
  for (std::uint32_t shard = 0; shard < 2; ++shard) {
    Q4Sample sample;
    sample.plan.shard = shard;
    sample.plan.shard_count = 2;
    sample.plan.file_id.fill(static_cast<std::uint8_t>(shard));
    sample.compression.zstd = shard == 1;
    for (const char* name : {"a", "c"}) {
      sample.Add(QuantizedTensor(name + std::to_string(shard), Q4Scheme::kNf4, {700, 65}, 64, shard == 0));
    }
    sample.Add(RawTensor("b" + std::to_string(shard), DType::kF32, {3000}));
    sample.Sort();
    const std::string name = Q4ShardName("dir/m.q4", shard, 2);
    files->fs[name] = WriteSample(sample);
    const auto reader = Q4Reader::Open(files->fs, name);
    REQUIRE(reader.ok());
    list.parts.push_back({BaseNameOf(name), (*reader)->seal().file_bytes, (*reader)->seal().root});
    for (const Q4Tensor& tensor : (*reader)->index().tensors) list.tensors.emplace_back(tensor.name, shard);
  }
  const std::string text = EncodeQ4ShardList(list);
  files->fs[files->path].assign(text.begin(), text.end());
  return files;
}

absl::Status RingMemory::NextOperation() {
  return operations++ == failing ? absl::InternalError("made to fail") : absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<MemoryBlock>> RingMemory::Allocate(std::uint64_t bytes) {
  if (absl::Status status = NextOperation(); !status.ok()) return status;
  auto block = host_->Allocate(bytes);
  if (!block.ok()) return block;
  return std::make_unique<CountedBlock>(*std::move(block), &live);
}

absl::StatusOr<std::unique_ptr<CopyQueue>> RingMemory::NewQueue(unsigned slots, std::uint64_t slot_bytes) {
  if (absl::Status status = NextOperation(); !status.ok()) return status;
  return std::make_unique<LateQueue>(this, slots, slot_bytes);
}

absl::Status RingMemory::Await(void* stream) {
  awaited.push_back(stream);
  copies_before_await = copies;
  return NextOperation();
}

absl::Status RingMemory::Dequantize(std::span<const DequantizeJob> jobs, unsigned threads) {
  if (absl::Status status = NextOperation(); !status.ok()) return status;
  for (const DequantizeJob& job : jobs) {
    if (job.scales.nested) REQUIRE(*job.offset_word == job.scales.offset);
  }
  return host_->Dequantize(jobs, threads);
}

absl::Status RingMemory::CopyToHost(const void* from, std::span<std::uint8_t> to) {
  return host_->CopyToHost(from, to);
}

void RequireRight(const Q4Model& model, LoadMemory& memory, const LoadedTensor& tensor, LoadForm form) {
  INFO(memory.name() << ", tensor " << tensor.entry.name);
  const Q4Model::Location* at = model.Find(tensor.entry.name);
  REQUIRE(at != nullptr);
  const Q4Tensor& entry = model.tensor(*at);
  CHECK(tensor.entry.shape == entry.shape);
  const auto data = ReadQ4Tensor(model.reader(*at), entry);
  REQUIRE(data.ok());
  CHECK(tensor.shape == entry.shape);
  CHECK(tensor.elems == entry.elems);
  const bool flat = form == LoadForm::kFlatScales;
  const bool as_values = entry.scheme == Q4Scheme::kRaw || (form != LoadForm::kQuantized && !flat);
  const DType dtype = entry.scheme == Q4Scheme::kRaw ? entry.dtype : ExpectedType(entry, form);
  CHECK(tensor.dtype == dtype);
  CHECK(tensor.value_bytes == (as_values ? entry.elems * ItemSize(dtype) : 0));
  if (as_values) {
    RequireBytes(memory, tensor.values,
                 entry.scheme == Q4Scheme::kRaw ? data->data : DequantizedByReference(entry, *data, dtype));
    CHECK(tensor.codes == nullptr);
    return;
  }
  CHECK(tensor.values == nullptr);
  RequireBytes(memory, tensor.codes, data->codes);
  if (flat) {
    RequireBytes(memory, tensor.scales, ScalesByReference(entry, *data));
    CHECK(tensor.scale_codes == nullptr);
    CHECK(tensor.scales2 == nullptr);
    CHECK(tensor.nested_offset == nullptr);
    return;
  }
  RequireBytes(memory, tensor.scales, data->scales);
  RequireBytes(memory, tensor.scale_codes, data->scale_codes);
  RequireBytes(memory, tensor.scales2, data->scales2);
  RequireBytes(memory, tensor.nested_offset,
               entry.nested ? std::vector<float>{entry.nested_offset} : std::vector<float>{});
}

void RequireAllRight(const Q4Model& model, LoadMemory& memory, const LoadedModel& loaded, LoadForm form) {
  REQUIRE(loaded.tensors.size() == model.tensors().size());
  for (std::size_t i = 0; i < loaded.tensors.size(); ++i) {
    CHECK(loaded.tensors[i].entry.name == model.tensor(model.tensors()[i]).name);
    RequireRight(model, memory, loaded.tensors[i], form);
  }
}

namespace {

template <typename T>
std::vector<T> FromMemory(LoadMemory& memory, const T* at, std::uint64_t items) {
  std::vector<T> got(items);
  const std::span bytes(reinterpret_cast<std::uint8_t*>(got.data()), got.size() * sizeof(T));
  REQUIRE(at != nullptr);
  REQUIRE(memory.CopyToHost(at, bytes).ok());
  return got;
}

// The elements of the whole, in the order of the slice.
std::vector<std::uint64_t> ElementsOf(const Shape& shape, const LoadSlice& slice) {
  std::vector<std::uint64_t> elements;
  std::uint64_t outer = 1, inner = 1;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i < slice.dim) outer *= shape[i];
    if (i > slice.dim) inner *= shape[i];
  }
  for (std::uint64_t o = 0; o < outer; ++o) {
    for (std::uint64_t index = slice.begin; index < slice.end; ++index) {
      for (std::uint64_t i = 0; i < inner; ++i) elements.push_back((o * shape[slice.dim] + index) * inner + i);
    }
  }
  return elements;
}

}  // namespace

void RequireSlice(const Q4Model& model, LoadMemory& memory, const LoadedTensor& tensor, const LoadSlice& slice,
                  LoadForm form) {
  INFO(memory.name() << ", tensor " << slice.tensor << ", dimension " << slice.dim << " from " << slice.begin << " to "
                     << slice.end);
  const Q4Model::Location* at = model.Find(slice.tensor);
  REQUIRE(at != nullptr);
  const Q4Tensor& entry = model.tensor(*at);
  const Q4TensorData data = test::Must(ReadQ4Tensor(model.reader(*at), entry));
  const std::vector<std::uint64_t> elements = ElementsOf(entry.shape, slice);
  Shape shape = entry.shape;
  shape[slice.dim] = slice.end - slice.begin;
  CHECK(tensor.shape == shape);
  REQUIRE(tensor.elems == elements.size());
  bool right = true;
  if (tensor.values != nullptr) {
    const DType dtype = entry.quantized() ? ExpectedType(entry, form) : entry.dtype;
    const std::uint64_t item = ItemSize(dtype);
    const test::Bytes whole = entry.quantized() ? DequantizedByReference(entry, data, dtype) : data.data;
    REQUIRE(tensor.dtype == dtype);
    REQUIRE(tensor.value_bytes == elements.size() * item);
    const auto got = FromMemory(memory, tensor.values, tensor.value_bytes);
    for (std::size_t i = 0; i < elements.size(); ++i) {
      right = right && std::memcmp(got.data() + i * item, whole.data() + elements[i] * item, item) == 0;
    }
    CHECK(right);
    return;
  }
  const auto codes = FromMemory(memory, tensor.codes, (elements.size() + 1) / 2);
  const std::uint64_t bs = entry.block_size, blocks = entry.BlocksOf(elements.size());
  for (std::size_t i = 0; i < elements.size(); ++i) {
    right = right && test::GetCode(codes, i) == test::GetCode(data.codes, elements[i]);
  }
  CHECK(right);
  if (tensor.scales != nullptr) {
    const std::vector<float> whole = ScalesByReference(entry, data);
    const auto scales = FromMemory(memory, tensor.scales, blocks);
    for (std::size_t i = 0; i < elements.size(); ++i) {
      right = right && std::memcmp(&scales[i / bs], &whole[elements[i] / bs], sizeof(float)) == 0;
    }
    CHECK(right);
    CHECK((tensor.scale_codes == nullptr && tensor.scales2 == nullptr && tensor.nested_offset == nullptr));
    return;
  }
  REQUIRE(form == LoadForm::kQuantized);
  const auto scale_codes = FromMemory(memory, tensor.scale_codes, blocks);
  const auto scales2 = FromMemory(memory, tensor.scales2, (blocks + 255) / 256);
  for (std::size_t i = 0; i < elements.size(); ++i) {
    right = right && scale_codes[i / bs] == data.scale_codes[elements[i] / bs] &&
            scales2[i / bs / 256] == data.scales2[elements[i] / bs / 256];
  }
  CHECK(right);
  CHECK(FromMemory(memory, tensor.nested_offset, 1)[0] == entry.nested_offset);
}

CallerMemory CallerMemory::Blocks(const LoadPlan& plan) {
  CallerMemory memory;
  for (const std::uint64_t bytes : plan.blocks) {
    auto& block = memory.memory_.emplace_back(bytes + 512, kPoison);
    const std::uint64_t skip = 256 - reinterpret_cast<std::uintptr_t>(block.data()) % 256;
    memory.places_.blocks.emplace_back(block.data() + skip, bytes);
  }
  return memory;
}

CallerMemory CallerMemory::Parts(const LoadPlan& plan, bool distances) {
  CallerMemory memory;
  const Q4Model& model = *plan.model;
  std::vector<std::uint64_t> shard(model.shards().size());
  if (distances) {
    for (std::size_t i = 0; i < shard.size(); ++i) {
      shard[i] = memory.memory_.size();
      memory.memory_.emplace_back(model.shards()[i]->seal().file_bytes + 64, kPoison);
    }
  }
  for (const LoadPart& part : plan.parts) {
    const LoadPlanTensor& tensor = plan.tensors[part.tensor];
    std::vector<std::uint8_t>* block = nullptr;
    std::uint64_t offset = 64;
    const std::size_t number = static_cast<std::size_t>(&part - &plan.parts[tensor.first_part]);
    if (distances && part.bytes != 0 && part.kind != LoadPartKind::kOffset) {
      const Q4Reader& reader = model.reader(tensor.at);
      block = &memory.memory_[shard[tensor.at.shard]];
      offset = reader.index().chunks[tensor.entry->parts()[number].first_chunk].offset;
      REQUIRE(offset + part.bytes <= block->size());
    } else {
      block = &memory.memory_.emplace_back(part.bytes + 128, kPoison);
    }
    offset -= reinterpret_cast<std::uintptr_t>(block->data()) % 16;
    memory.places_.parts.emplace_back(block->data() + offset, part.bytes);
  }
  return memory;
}

void CallerMemory::RequireRestUntouched() const {
  for (const std::vector<std::uint8_t>& block : memory_) {
    std::vector<std::pair<const std::uint8_t*, const std::uint8_t*>> used;
    for (const auto& places : {places_.blocks, places_.parts}) {
      for (const auto& place : places) {
        if (place.data() >= block.data() && place.data() < block.data() + block.size()) {
          used.emplace_back(place.data(), place.data() + place.size());
        }
      }
    }
    std::sort(used.begin(), used.end());
    const std::uint8_t* at = block.data();
    const auto poisoned = [](std::uint8_t byte) { return byte == kPoison; };
    for (const auto& [begin, end] : used) {
      REQUIRE(std::all_of(at, begin, poisoned));
      at = end;
    }
    REQUIRE(std::all_of(at, block.data() + block.size(), poisoned));
  }
}

void RequirePinnedRootBinds(LoadMemory& memory) {
  const auto files = OneFile(LoaderSample());
  // The last chunk holds other bytes than its SHA-256 says, under an index whose digests hold and a right XXH3.
  ForgedContainer forged(files->fs["m.q4"]);
  forged.EditChunks([](std::vector<Q4Chunk>* chunks) { chunks->back().sha256[0] ^= 1; });
  ModelFiles replaced;
  replaced.path = "m.q4";
  replaced.fs["m.q4"] = forged.Seal();
  const auto right = files->Open(), wrong = replaced.Open();
  for (const LoadCheck check : {LoadCheck::kNone, LoadCheck::kXxh3, LoadCheck::kSha256}) {
    for (const LoadForm form : {LoadForm::kQuantized, LoadForm::kBF16}) {
      LoadOptions options;
      options.check = check;
      options.form = form;
      // No root: only who asks for SHA-256 hears of it.
      CHECK(LoadModel(*wrong, memory, options).ok() == (check != LoadCheck::kSha256));
      options.root = wrong->root();
      CHECK(IssueNumberOf(LoadModel(*wrong, memory, options).status()) == kQ4ChunkReplaced.number);
      CHECK(IssueNumberOf(LoadModel(*right, memory, options).status()) == kQ4OtherRoot.number);
      options.root = right->root();
      const auto loaded = LoadModel(*right, memory, options);
      REQUIRE(loaded.ok());
      RequireAllRight(*right, memory, *loaded, form);
    }
  }
}

}  // namespace q4
