// What the tests of the loader share: models to load, memory that shows mistakes, and the comparison with the reader.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "formats/q4/reader.h"
#include "libconvert/load/load.h"
#include "libconvert/load/memory.h"
#include "tests/formats/q4/samples.h"
#include "tests/support/memory_file_system.h"

namespace q4 {

inline constexpr LoadForm kAllForms[] = {LoadForm::kQuantized, LoadForm::kFlatScales, LoadForm::kSource,
                                         LoadForm::kF32,       LoadForm::kF16,        LoadForm::kBF16};

// A model in files of its own.
struct ModelFiles {
  MemoryFileSystem fs;
  std::string path;

  std::unique_ptr<Q4Model> Open();
};

// Every dtype, scheme and kind of part; tensors of several chunks, with tails and odd counts; embedded files.
Q4Sample LoaderSample();
std::unique_ptr<ModelFiles> OneFile(const Q4Sample& sample);
// Two shards whose names interleave, one of them compressed.
std::unique_ptr<ModelFiles> TwoShards();

// Host memory that can only be reached through slots, and that copies as late as it may: a slot that is filled too
// early gives wrong bytes. Every operation can be made to fail, and what is left over is counted.
class RingMemory final : public LoadMemory {
 public:
  std::string name() const override { return "ring"; }
  bool host_writable() const override { return false; }
  absl::StatusOr<std::unique_ptr<MemoryBlock>> Allocate(std::uint64_t bytes) override;
  absl::StatusOr<std::unique_ptr<CopyQueue>> NewQueue(unsigned slots, std::uint64_t slot_bytes) override;
  absl::Status Await(void* stream) override;
  absl::Status Dequantize(std::span<const DequantizeJob> jobs, unsigned threads) override;
  absl::Status CopyToHost(const void* from, std::span<std::uint8_t> to) override;

  // The operation with this number fails, counted from 0; -1: none does.
  std::atomic<std::int64_t> failing = -1;
  std::atomic<std::int64_t> operations = 0;
  std::atomic<int> live = 0;    // blocks and queues
  std::atomic<int> copies = 0;  // begun so far
  std::vector<void*> awaited;   // streams
  int copies_before_await = 0;

  absl::Status NextOperation();

 private:
  std::unique_ptr<LoadMemory> host_ = MakeHostMemory();
};

// That `tensor` is what the reader gives, and after dequantizing what the scalar kernels give, bit for bit.
void RequireRight(const Q4Model& model, LoadMemory& memory, const LoadedTensor& tensor, LoadForm form);
// The same for all tensors, which must be all that the model has.
void RequireAllRight(const Q4Model& model, LoadMemory& memory, const LoadedModel& loaded, LoadForm form);
// That `tensor` is the slice, by looking at each of its elements: values are those of the whole, bit for bit; codes and
// scales are those that the whole has for the element, nested scales only where they are whole groups of it.
void RequireSlice(const Q4Model& model, LoadMemory& memory, const LoadedTensor& tensor, const LoadSlice& slice,
                  LoadForm form);

// Memory for the places of a plan, which are poisoned. What lies between, before and behind them must stay as it was.
class CallerMemory {
 public:
  CallerMemory(CallerMemory&&) = default;
  // In blocks, or each part by itself. `distances`: parts that lie in one file lie as far from each other as there, so
  // that whoever copies what lies between them is found out.
  static CallerMemory Blocks(const LoadPlan& plan);
  static CallerMemory Parts(const LoadPlan& plan, bool distances);

  const LoadPlaces& places() const { return places_; }
  LoadPlaces* mutable_places() { return &places_; }
  // That only the places were written.
  void RequireRestUntouched() const;

 private:
  CallerMemory() = default;
  std::vector<std::vector<std::uint8_t>> memory_;
  LoadPlaces places_;
};

// That a pinned root is compared, and means SHA-256 of every chunk whatever check and form are asked for.
void RequirePinnedRootBinds(LoadMemory& memory);

}  // namespace q4
