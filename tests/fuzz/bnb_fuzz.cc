// The 4-bit weights of bitsandbytes. The input is a description (quant_state) up to its first NUL, and changes to the
// tensors of a weight that is as the description says. A description that is accepted says the same when it is written
// as the library writes it; a weight that is not changed is taken over; of what is accepted with changes no tensor is
// lost and none is used twice; tables that pass are recorded as far as they are not the usual ones.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/bnb/layout.h"
#include "formats/bnb/quant_state.h"
#include "formats/bnb/taken_over.h"
#include "formats/bnb/weights.h"
#include "formats/exchange/safetensors_writer.h"
#include "formats/q4/parts.h"
#include "formats/source/checkpoint.h"
#include "libconvert/model/bnb_record.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/support/memory_file_system.h"
#include "tests/support/steady_file.h"

namespace q4::fuzz {
namespace {

// A tensor with what it begins with; the rest is zeros.
struct Stored {
  SourceTensor tensor;
  std::string head;
};

// All of them, one after the other.
class PartsFile final : public test::SteadyFile {
 public:
  explicit PartsFile(std::vector<Stored>& stored) : SteadyFile("f.safetensors") {
    for (Stored& one : stored) {
      one.tensor.extents.assign(1, {0, size_, one.tensor.bytes});
      heads_[size_] = one.head;
      size_ += one.tensor.bytes;
    }
  }
  absl::Status ReadAt(std::uint64_t offset, std::span<std::uint8_t> out) const override {
    Q4_FUZZ_CHECK(offset <= size_ && out.size() <= size_ - offset);
    std::fill(out.begin(), out.end(), std::uint8_t{0});
    // Whole tensors are read, each from its beginning.
    if (const auto found = heads_.find(offset); found != heads_.end()) {
      found->second.copy(reinterpret_cast<char*>(out.data()), out.size());
    }
    return absl::OkStatus();
  }
  std::uint64_t size() const override { return size_; }

 private:
  std::map<std::uint64_t, std::string> heads_;
  std::uint64_t size_ = 0;
};

bool Resize(const Shape& shape, DType dtype, SourceTensor* tensor) {
  if (!CountElements(shape, &tensor->elems)) return false;
  tensor->shape = shape;
  tensor->dtype = dtype;
  tensor->bytes = tensor->elems * ItemSize(dtype);
  return true;
}

std::string TextOfBytes(const std::vector<std::uint8_t>& bytes) { return {bytes.begin(), bytes.end()}; }

// What bitsandbytes would save for `weight`, with `text` for its description.
std::vector<Stored> StoredOf(const Q4Tensor& weight, DType storage, const std::string& text) {
  std::vector<Stored> stored;
  for (const BnbTensor& part : BnbTensorsOf(weight, storage)) {
    Stored one;
    one.tensor.name = part.key;
    const bool is_text = part.part == BnbPart::kQuantState;
    Q4_FUZZ_CHECK(Resize(is_text ? Shape{text.size()} : part.shape, part.dtype, &one.tensor));
    if (is_text) one.head = text;
    if (part.part == BnbPart::kQuantMap) one.head = TextOfBytes(BnbQuantMapBytes(weight.scheme));
    if (part.part == BnbPart::kNestedQuantMap) one.head = TextOfBytes(BnbNestedMapBytes());
    stored.push_back(std::move(one));
  }
  return stored;
}

bool HasName(const std::vector<Stored>& stored, const std::string& name) {
  return std::any_of(stored.begin(), stored.end(), [&](const Stored& one) { return one.tensor.name == name; });
}

// One change, as a writer of files could make it: names stay unique, and sizes those of the shapes. Returns whether
// more than a table changed.
bool Change(FuzzInput& input, const std::string& text, std::vector<Stored>& stored) {
  constexpr std::array<std::string_view, 9> kEndings = {"",
                                                        ".absmax",
                                                        ".quant_map",
                                                        ".nested_absmax",
                                                        ".nested_quant_map",
                                                        ".quant_state.bitsandbytes__nf4",
                                                        ".quant_state.bitsandbytes__fp4",
                                                        ".weight",
                                                        ".bias"};
  const std::uint8_t kind = input.Byte() % 7;
  const std::size_t at = input.Below(256) % stored.size();
  SourceTensor& tensor = stored[at].tensor;
  switch (kind) {
    case 0:  // it is not there
      if (stored.size() > 1) stored.erase(stored.begin() + static_cast<std::ptrdiff_t>(at));
      return true;
    case 1: {  // it is called otherwise
      const std::string name = (input.Bool() ? "w" : "v") + std::string(kEndings[input.Below(kEndings.size())]);
      if (!HasName(stored, name)) tensor.name = name;
      return true;
    }
    case 2:  // another type
      Resize(tensor.shape, static_cast<DType>(1 + input.Below(kMaxDType)), &tensor);
      return true;
    case 3: {  // another shape
      Shape shape;
      for (std::uint64_t rank = input.Below(4); rank > 0; --rank) shape.push_back(input.Below(300));
      Resize(shape, tensor.dtype, &tensor);
      return true;
    }
    case 4:  // a view
      tensor.recipe = SourceRecipe::kStrided;
      return true;
    case 5: {  // one more
      Stored more;
      more.tensor.name = stored[at].tensor.name + std::string(kEndings[input.Below(kEndings.size())]);
      if (HasName(stored, more.tensor.name)) return true;
      const bool is_text = more.tensor.name.find(kBnbQuantStateInfix) != std::string::npos;
      Resize(is_text ? Shape{text.size()} : Shape{input.Below(64), 1}, DType::kU8, &more.tensor);
      if (is_text) more.head = text;
      stored.push_back(std::move(more));
      return true;
    }
    default: {  // another value in a table
      std::string& head = stored[at].head;
      if (head.empty() || head == text) return true;
      const std::size_t place = input.Below(1 << 16) % head.size();
      head[place] = static_cast<char>(input.Byte());
      return false;
    }
  }
}

// What a description says, written by us, says the same.
void CheckDescription(const BnbQuantState& state) {
  std::uint64_t elems = 0;
  Q4_FUZZ_CHECK(CountElements(state.shape, &elems) && elems == state.elems);
  Q4_FUZZ_CHECK(IsQ4BlockSize(state.block_size) && state.quantized() && IsQuantizable(state.dtype));
  Q4_FUZZ_CHECK(state.nested_block_size == (state.nested ? kQ4BlocksPerGroup : 0));
  BnbWeight weight;
  weight.state = state;
  const Q4Tensor tensor = Q4TensorOf(weight);
  if (!std::isfinite(tensor.nested_offset)) return;
  std::string problem;
  const auto again = ParseBnbQuantState(BnbQuantStateJson(tensor), &problem);
  Q4_FUZZ_CHECK(again && problem.empty());
  Q4_FUZZ_CHECK(static_cast<const QuantFormat&>(*again) == static_cast<const QuantFormat&>(state));
  Q4_FUZZ_CHECK(again->dtype == state.dtype && again->shape == state.shape && again->elems == state.elems);
  Q4_FUZZ_CHECK(static_cast<float>(again->nested_offset) == tensor.nested_offset);
}

void CheckTaken(const std::vector<SourceTensor>& tensors, const PartsFile& file, std::size_t before) {
  std::set<std::uint64_t> places;  // of tensors with bytes
  std::set<std::string> names;
  std::size_t extents = 0;
  for (const SourceTensor& tensor : tensors) {
    Q4_FUZZ_CHECK(names.insert(tensor.name).second);
    extents += tensor.extents.size();
    for (const SourceExtent& extent : tensor.extents) {
      Q4_FUZZ_CHECK(extent.end() <= file.size());
      if (extent.bytes != 0) Q4_FUZZ_CHECK(places.insert(extent.offset).second);
    }
    if (tensor.recipe != SourceRecipe::kBnbCodes) {
      Q4_FUZZ_CHECK(tensor.bnb == nullptr && tensor.extents.size() == 1);
      continue;
    }
    Q4_FUZZ_CHECK(tensor.bnb != nullptr && tensor.elems != 0);
    Q4_FUZZ_CHECK(tensor.bytes == tensor.elems * ItemSize(tensor.dtype));
    const BnbSource& bnb = *tensor.bnb;
    Q4Tensor described;
    static_cast<QuantFormat&>(described) = bnb;
    described.dtype = tensor.dtype;
    described.elems = tensor.elems;
    const auto kinds = Q4PartKindsOf(described);
    Q4_FUZZ_CHECK(bnb.parts.size() == kinds.size());
    for (std::size_t i = 0; i < kinds.size(); ++i) {
      Q4_FUZZ_CHECK(bnb.parts[i].is_stored() && bnb.parts[i].bytes == Q4PartRawBytes(described, kinds[i]));
    }
    Q4_FUZZ_CHECK(bnb.quant_map->size() == 64 && (bnb.nested_map != nullptr) == bnb.nested);
    Q4_FUZZ_CHECK(!bnb.nested || bnb.nested_map->size() == 1024);
  }
  Q4_FUZZ_CHECK(extents == before);
}

// The weight in a file, whose tables are judged and recorded.
void CheckTables(const std::vector<Stored>& stored, const std::string& text) {
  std::vector<SafetensorsTensor> tensors;
  for (const Stored& one : stored) tensors.push_back({one.tensor.name, one.tensor.dtype, one.tensor.shape});
  const auto layout = PlanSafetensors(tensors);
  Q4_FUZZ_CHECK(layout.ok());
  MemoryFileSystem fs;
  test::Bytes& bytes = fs["d/m.safetensors"];
  bytes.assign(layout->header.begin(), layout->header.end());
  bytes.resize(layout->file_bytes);
  for (std::size_t i = 0; i < stored.size(); ++i) {
    std::copy(stored[i].head.begin(), stored[i].head.end(),
              bytes.begin() + static_cast<std::ptrdiff_t>(layout->offsets[i]));
  }
  OpenOptions options;
  options.take_over = true;
  const auto checkpoint = OpenCheckpoint(fs, "d/m.safetensors", options);
  Q4_FUZZ_CHECK(checkpoint.ok());
  if (const absl::Status status = CheckTakenOver(**checkpoint); !status.ok()) return CheckError(status);
  const SourceTensor& tensor = (*checkpoint)->tensors().front();
  Q4_FUZZ_CHECK(std::isfinite(tensor.bnb->nested_offset));
  const Json record = BnbRecordJson(**checkpoint);
  Q4Tensor described;
  static_cast<QuantFormat&>(described) = *tensor.bnb;
  described.dtype = tensor.dtype;
  described.shape = tensor.shape;
  described.nested_offset = tensor.bnb->nested_offset;
  const Json* const weights = FindMember(record, "weights");
  Q4_FUZZ_CHECK((weights == nullptr) == (BnbQuantStateJson(described) == text));
  if (weights != nullptr) Q4_FUZZ_CHECK(FindMember((*weights)[0], "quant_state")->text() == text);
  const bool usual_maps = *tensor.bnb->quant_map == BnbQuantMapBytes(tensor.bnb->scheme) &&
                          (!tensor.bnb->nested || *tensor.bnb->nested_map == BnbNestedMapBytes());
  const bool no_maps = FindMember(record, "nf4_map") == nullptr && FindMember(record, "fp4_map") == nullptr &&
                       FindMember(record, "nested_map") == nullptr;
  Q4_FUZZ_CHECK(usual_maps == no_maps);
}

}  // namespace
}  // namespace q4::fuzz

Q4_FUZZ_TARGET(bnb) {
  using namespace q4;
  const std::string_view all = fuzz::TextOf(data, size);
  const std::string text(all.substr(0, all.find('\0')));
  fuzz::FuzzInput input(data + std::min(text.size() + 1, size), size - std::min(text.size() + 1, size));
  std::string problem;
  const auto state = ParseBnbQuantState(text, &problem);
  Q4_FUZZ_CHECK(state.has_value() == problem.empty());
  // Most inputs end here, which makes the target twice as fast.
  if (!state) return 0;
  fuzz::CheckDescription(*state);
  BnbWeight weight;
  weight.name = "w";
  weight.state = *state;
  constexpr std::array<DType, 4> kStorages = {DType::kU8, DType::kBF16, DType::kF16, DType::kF32};
  DType storage = kStorages[input.Below(kStorages.size())];
  if (!BnbStorageFits(weight.state.elems, storage)) storage = DType::kU8;
  const Q4Tensor described = Q4TensorOf(weight);
  std::vector<fuzz::Stored> stored = fuzz::StoredOf(described, storage, text);
  bool changed = weight.state.elems == 0;
  for (int changes = 0; changes < 8 && input.remaining() != 0; ++changes) {
    changed = fuzz::Change(input, text, stored) || changed;
  }
  const fuzz::PartsFile file(stored);
  std::vector<SourceTensor> tensors;
  for (const fuzz::Stored& one : stored) tensors.push_back(one.tensor);
  const absl::Status status = TakeOverBnb({&file}, &tensors);
  if (!status.ok()) {
    Q4_FUZZ_CHECK(changed);
    fuzz::CheckError(status);
    return 0;
  }
  fuzz::CheckTaken(tensors, file, stored.size());
  if (changed) return 0;
  Q4_FUZZ_CHECK(tensors.size() == 1 && tensors[0].shape == described.shape && tensors[0].bnb->quant_state == text);
  if (described.elems <= 4096) fuzz::CheckTables(stored, text);
  return 0;
}
