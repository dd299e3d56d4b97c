#include "libconvert/source/strided.h"

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "formats/source/checkpoint_issues.h"
#include "libconvert/source/source_reader.h"
#include "tests/support/catch.h"
#include "tests/support/memory_file_system.h"

namespace q4 {
namespace {

// Counts the reads of a checkpoint's one file.
class CountedFile final : public RandomAccessFile {
 public:
  explicit CountedFile(std::unique_ptr<RandomAccessFile> file) : file_(std::move(file)) {}
  absl::Status ReadAt(std::uint64_t offset, std::span<std::uint8_t> out) const override {
    ++reads;
    return file_->ReadAt(offset, out);
  }
  void Prefetch(std::uint64_t offset, std::uint64_t bytes) const override { file_->Prefetch(offset, bytes); }
  std::uint64_t size() const override { return file_->size(); }
  FileVersion version() const override { return file_->version(); }
  absl::StatusOr<FileVersion> VersionNow() const override { return file_->VersionNow(); }
  const std::string& path() const override { return file_->path(); }
  FileIdentity identity() const override { return file_->identity(); }

  mutable int reads = 0;

 private:
  const std::unique_ptr<RandomAccessFile> file_;
};

// A tensor that views a file of elements that are all different, from element `offset` on.
struct StridedView {
  StridedView(DType dtype, Shape shape, Shape strides, std::uint64_t offset) {
    tensor.name = "t";
    tensor.dtype = dtype;
    tensor.recipe = SourceRecipe::kStrided;
    tensor.elems = 1;
    std::uint64_t span = 1;
    for (std::size_t d = 0; d < shape.size(); ++d) {
      tensor.elems *= shape[d];
      span += (shape[d] - 1) * strides[d];
    }
    const std::uint64_t item = ItemSize(dtype);
    tensor.bytes = tensor.elems * item;
    tensor.extents.assign(1, {0, offset * item, span * item});
    tensor.shape = std::move(shape);
    tensor.strides = std::make_shared<const Shape>(std::move(strides));
    std::vector<std::uint8_t> bytes((offset + span) * item);
    std::mt19937 random(7);
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
    // What each element must be, by the definition of strides.
    for (std::uint64_t i = 0; i < tensor.elems; ++i) {
      std::uint64_t rest = i, at = offset;
      for (std::size_t d = tensor.shape.size(); d-- > 0; rest /= tensor.shape[d]) {
        at += rest % tensor.shape[d] * (*tensor.strides)[d];
      }
      const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(at * item);
      expected.insert(expected.end(), begin, begin + static_cast<std::ptrdiff_t>(item));
    }
    fs["f"] = std::move(bytes);
    auto counted = std::make_shared<CountedFile>(*fs.OpenForRead("f"));
    file = counted.get();
    CheckpointContent content;
    content.path = "f";
    content.files.push_back({"f", std::move(counted)});
    content.tensors.push_back(tensor);
    checkpoint = std::make_unique<Checkpoint>(std::move(content));
  }

  // Whether the elements from `first` on are right.
  bool Holds(std::uint64_t first, std::uint64_t count) const {
    const std::uint64_t item = ItemSize(tensor.dtype);
    std::vector<std::uint8_t> out(count * item);
    const SourceReader reader(*checkpoint);
    if (!reader.Read(checkpoint->tensors()[0], first, out).ok()) return false;
    return std::equal(out.begin(), out.end(), expected.begin() + static_cast<std::ptrdiff_t>(first * item));
  }

  MemoryFileSystem fs;
  const CountedFile* file = nullptr;
  SourceTensor tensor;
  std::vector<std::uint8_t> expected;
  std::unique_ptr<Checkpoint> checkpoint;
};

TEST_CASE("elements of strided views are those that the strides say") {
  const StridedView views[] = {
      {DType::kF32, {300, 200}, {1, 300}, 0},            // transposed
      {DType::kBF16, {50, 40}, {100, 1}, 7},             // columns of a wider matrix
      {DType::kU8, {17, 33}, {99, 3}, 1},                // every third
      {DType::kF64, {5, 7, 11}, {1, 5, 35}, 0},          // all reversed
      {DType::kI16, {3, 4, 5, 6}, {1, 360, 3, 60}, 2},   // permuted
      {DType::kF32, {1, 9, 1, 4}, {1000, 5, 77, 1}, 0},  // dimensions of one
      {DType::kF32, {100}, {40}, 3},                     // a column
      {DType::kU8, {20, 30}, {1, 1}, 0},                 // overlapping
      {DType::kU8, {4, 30'000}, {50'000, 1}, 0},         // stretches with gaps that are read over, or not
      {DType::kU8, {40'000, 4}, {1, 40'000}, 5},         // few columns, long ones
      {DType::kF32, {3, 70'000}, {1, 3}, 0},             // more than the scratch at once
      {DType::kU8, {}, {}, 9},
  };
  std::mt19937_64 random(11);
  for (const StridedView& view : views) {
    CAPTURE(ShapeString(view.tensor.shape));
    CHECK(view.Holds(0, view.tensor.elems));
    for (int i = 0; i < 40; ++i) {
      const std::uint64_t first = random() % (view.tensor.elems + 1);
      CHECK(view.Holds(first, random() % (view.tensor.elems - first + 1)));
    }
    for (std::uint64_t first = 0; first < std::min<std::uint64_t>(view.tensor.elems, 60); ++first) {
      CHECK(view.Holds(first, 1));
    }
  }
}

TEST_CASE("random views of up to four dimensions") {
  std::mt19937_64 random(5);
  for (int i = 0; i < 150; ++i) {
    Shape shape, strides;
    for (std::uint64_t d = random() % 5; d > 0; --d) {
      shape.push_back(1 + random() % 9);
      strides.push_back(1 + random() % 40);
    }
    const StridedView view(i % 2 == 0 ? DType::kF16 : DType::kU8, shape, strides, random() % 50);
    CAPTURE(ShapeString(shape), ShapeString(strides));
    CHECK(view.Holds(0, view.tensor.elems));
    const std::uint64_t first = random() % view.tensor.elems;
    CHECK(view.Holds(first, random() % (view.tensor.elems - first + 1)));
  }
}

TEST_CASE("a transposed matrix takes a read for each column at the most") {
  const StridedView view(DType::kF32, {4096, 64}, {1, 4096}, 0);
  view.file->reads = 0;
  CHECK(view.Holds(0, view.tensor.elems));
  CHECK(view.file->reads <= 64 * 4);
  // Narrow pieces of columns are read together.
  view.file->reads = 0;
  const StridedView narrow(DType::kU8, {1000, 500}, {1, 1000}, 0);
  narrow.file->reads = 0;
  CHECK(narrow.Holds(5000, 5000));
  CHECK(narrow.file->reads <= 4);
}

TEST_CASE("elements outside a strided tensor are an error") {
  const StridedView view(DType::kU8, {4, 4}, {1, 4}, 0);
  std::vector<std::uint8_t> out(5);
  const SourceReader reader(*view.checkpoint);
  CHECK(IssueNumberOf(reader.Read(view.tensor, 12, out)) == kReadOutsideTensor.number);
  reader.Prefetch(view.tensor, 8, 1000);  // advice beyond the end
}

}  // namespace
}  // namespace q4
