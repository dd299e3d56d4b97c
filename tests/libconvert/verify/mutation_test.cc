// Changes what a container says, at random, with every digest right, and asks whether verification against the source
// finds it and names the tensor. A mutation that changes nothing (two equal blocks swapped, a tensor equal to its
// transpose, a block size that cuts it into the same blocks) is drawn again, so that each one counted is a change of
// the stored bytes.
//
// Q4_MUTATIONS: how many per model (default 160). Q4_MUTATION_MODEL: a checkpoint to use instead of the small ones.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "fmt/format.h"
#include "libconvert/convert/convert.h"
#include "libconvert/verify/verify.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/convert_setup.h"
#include "tests/support/must.h"
#include "tests/support/q4_builder.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

using test::BuiltTensor;
using test::Bytes;
using test::GetCode;
using test::Q4Builder;
using test::SetCode;

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  std::uint64_t Below(std::uint64_t bound) {
    return std::uniform_int_distribution<std::uint64_t>(0, bound - 1)(engine_);
  }
  bool Coin() { return Below(2) == 0; }

 private:
  std::mt19937_64 engine_;
};

// What was changed: the name that a finding must give. nullopt: this tensor cannot be changed so.
using Subject = std::optional<std::string>;
using Mutation = std::function<Subject(Q4Builder*, Random*)>;

// A random tensor for which `fits` holds; nullptr if there is none.
BuiltTensor* Pick(Q4Builder* model, Random* random, const std::function<bool(const BuiltTensor&)>& fits) {
  std::vector<BuiltTensor*> candidates;
  for (BuiltTensor& tensor : model->tensors()) {
    if (fits(tensor)) candidates.push_back(&tensor);
  }
  return candidates.empty() ? nullptr : candidates[random->Below(candidates.size())];
}

bool IsQuantized(const BuiltTensor& tensor) { return tensor.entry.scheme != Q4Scheme::kRaw; }
bool IsRawWithData(const BuiltTensor& tensor) { return !IsQuantized(tensor) && tensor.entry.elems > 0; }
bool HasPart(const BuiltTensor& tensor, Q4Part part) { return tensor.parts.contains(part); }

Subject ChangeCode(Q4Builder* model, Random* random) {
  BuiltTensor* tensor = Pick(model, random, IsQuantized);
  if (tensor == nullptr) return std::nullopt;
  Bytes& codes = tensor->parts.at(Q4Part::kCodes);
  const std::uint64_t at = random->Below(tensor->entry.elems);
  const int step = random->Coin() ? 1 : 15;
  SetCode(&codes, at, static_cast<std::uint8_t>((GetCode(codes, at) + step) % 16));
  return tensor->entry.name;
}

// Multiplies one fp32 value of `part` by 1.02.
Subject ScaleFloat(Q4Builder* model, Random* random, Q4Part part) {
  BuiltTensor* tensor = Pick(model, random, [part](const BuiltTensor& t) { return HasPart(t, part); });
  if (tensor == nullptr) return std::nullopt;
  float& value = tensor->Floats(part)[random->Below(tensor->parts.at(part).size() / sizeof(float))];
  const float changed = value * 1.02f;
  if (std::bit_cast<std::uint32_t>(changed) == std::bit_cast<std::uint32_t>(value)) return std::nullopt;
  value = changed;
  return tensor->entry.name;
}

Subject ChangeScaleCode(Q4Builder* model, Random* random) {
  BuiltTensor* tensor = Pick(model, random, [](const BuiltTensor& t) { return HasPart(t, Q4Part::kScaleCodes); });
  if (tensor == nullptr) return std::nullopt;
  Bytes& codes = tensor->parts.at(Q4Part::kScaleCodes);
  std::uint8_t& code = codes[random->Below(codes.size())];
  code = static_cast<std::uint8_t>(code + (random->Coin() ? 1 : 255));
  return tensor->entry.name;
}

Subject ChangeOffset(Q4Builder* model, Random* random) {
  BuiltTensor* tensor = Pick(model, random, [](const BuiltTensor& t) { return t.entry.nested; });
  if (tensor == nullptr) return std::nullopt;
  tensor->entry.nested_offset = std::nextafterf(tensor->entry.nested_offset, random->Coin() ? 1.0f : 0.0f);
  return tensor->entry.name;
}

Subject SwapBlocks(Q4Builder* model, Random* random) {
  BuiltTensor* tensor = Pick(
      model, random, [](const BuiltTensor& t) { return IsQuantized(t) && t.entry.elems >= 2 * t.entry.block_size; });
  if (tensor == nullptr) return std::nullopt;
  const std::uint64_t whole = tensor->entry.elems / tensor->entry.block_size;
  const std::uint64_t a = random->Below(whole), b = random->Below(whole);
  const auto before = tensor->parts;
  const auto swap = [a, b](Bytes* bytes, std::uint64_t size) {
    const auto at = [&](std::uint64_t block) { return bytes->begin() + static_cast<std::ptrdiff_t>(block * size); };
    std::swap_ranges(at(a), at(a) + static_cast<std::ptrdiff_t>(size), at(b));
  };
  if (a != b) {
    swap(&tensor->parts.at(Q4Part::kCodes), tensor->entry.block_size / 2);
    if (HasPart(*tensor, Q4Part::kScales)) swap(&tensor->parts.at(Q4Part::kScales), sizeof(float));
    if (HasPart(*tensor, Q4Part::kScaleCodes)) swap(&tensor->parts.at(Q4Part::kScaleCodes), 1);
  }
  if (tensor->parts == before) return std::nullopt;
  return tensor->entry.name;
}

// Transposes what is stored, codes or elements, and the shape.
Subject Transpose(Q4Builder* model, Random* random) {
  BuiltTensor* tensor =
      Pick(model, random, [](const BuiltTensor& t) { return t.entry.shape.size() == 2 && t.entry.elems > 0; });
  if (tensor == nullptr) return std::nullopt;
  const std::uint64_t rows = tensor->entry.shape[0], columns = tensor->entry.shape[1];
  const Q4Part part = IsQuantized(*tensor) ? Q4Part::kCodes : Q4Part::kData;
  const Bytes before = tensor->parts.at(part);
  Bytes& after = tensor->parts.at(part);
  const std::size_t size = ItemSize(tensor->entry.dtype);
  for (std::uint64_t row = 0; row < rows; ++row) {
    for (std::uint64_t column = 0; column < columns; ++column) {
      const std::uint64_t from = row * columns + column, to = column * rows + row;
      if (part == Q4Part::kCodes) {
        SetCode(&after, to, GetCode(before, from));
      } else {
        std::copy_n(&before[from * size], size, &after[to * size]);
      }
    }
  }
  std::swap(tensor->entry.shape[0], tensor->entry.shape[1]);
  if (rows == columns && after == before) return std::nullopt;
  return tensor->entry.name;
}

// Declares half or twice the block size, with as many scales as that needs.
Subject DeclareBlockSize(Q4Builder* model, Random* random) {
  BuiltTensor* tensor = Pick(model, random, IsQuantized);
  if (tensor == nullptr) return std::nullopt;
  const bool larger = tensor->entry.block_size == 32 || random->Coin();
  const std::uint64_t blocks_before = tensor->entry.blocks();
  tensor->entry.block_size = larger ? tensor->entry.block_size * 2 : tensor->entry.block_size / 2;
  const std::uint64_t blocks = tensor->entry.blocks();
  if (blocks == blocks_before) return std::nullopt;  // the same blocks, and so the same values
  const auto resize = [](Bytes* bytes, std::size_t size) {
    const Bytes before = *bytes;
    bytes->resize(size);
    for (std::size_t i = before.size(); i < size; ++i) (*bytes)[i] = before[i % before.size()];
  };
  if (HasPart(*tensor, Q4Part::kScales)) resize(&tensor->parts.at(Q4Part::kScales), blocks * sizeof(float));
  if (HasPart(*tensor, Q4Part::kScaleCodes)) {
    resize(&tensor->parts.at(Q4Part::kScaleCodes), blocks);
    resize(&tensor->parts.at(Q4Part::kScales2), GroupCount(blocks) * sizeof(float));
  }
  return tensor->entry.name;
}

Subject DeclareOtherBook(Q4Builder* model, Random* random) {
  BuiltTensor* tensor = Pick(model, random, IsQuantized);
  if (tensor == nullptr) return std::nullopt;
  tensor->entry.scheme = tensor->entry.scheme == Q4Scheme::kNf4 ? Q4Scheme::kFp4 : Q4Scheme::kNf4;
  return tensor->entry.name;
}

Subject DeclareOtherDType(Q4Builder* model, Random* random) {
  BuiltTensor* tensor = Pick(model, random, IsQuantized);
  if (tensor == nullptr) return std::nullopt;
  tensor->entry.dtype = tensor->entry.dtype == DType::kBF16 ? DType::kF16 : DType::kBF16;
  return tensor->entry.name;
}

Subject RemoveTensor(Q4Builder* model, Random* random) {
  const BuiltTensor* tensor = Pick(model, random, [](const BuiltTensor&) { return true; });
  const std::string name = tensor->entry.name;
  model->Remove(name);
  return name;
}

Subject RenameTensor(Q4Builder* model, Random* random) {
  BuiltTensor* tensor = Pick(model, random, [](const BuiltTensor&) { return true; });
  const std::string name = tensor->entry.name;
  tensor->entry.name += "_";
  return name;
}

Subject FlipKeptBit(Q4Builder* model, Random* random) {
  BuiltTensor* tensor = Pick(model, random, IsRawWithData);
  if (tensor == nullptr) return std::nullopt;
  Bytes& data = tensor->parts.at(Q4Part::kData);
  data[random->Below(data.size())] ^= static_cast<std::uint8_t>(1u << random->Below(8));
  return tensor->entry.name;
}

Subject ChangeFileByte(Q4Builder* model, Random* random) {
  std::vector<std::string> names;
  for (const auto& [name, content] : model->files()) {
    if (!content.empty()) names.push_back(name);
  }
  if (names.empty()) return std::nullopt;
  const std::string& name = names[random->Below(names.size())];
  std::string content = model->files().at(name);
  char& c = content[random->Below(content.size())];
  c = static_cast<char>(c ^ 1);
  model->AddFile(name, content);
  return name;
}

// One recorded number: a count by one, a sum or maximum to the next double.
Subject ChangeStats(Q4Builder* model, Random* random) {
  BuiltTensor* tensor = Pick(model, random, [](const BuiltTensor& t) { return t.entry.has_stats; });
  if (tensor == nullptr) return std::nullopt;
  Q4Stats& stats = tensor->stats;
  const Q4Stats before = stats;
  std::uint64_t* const counts[] = {&stats.zero_blocks,       &stats.tiny_blocks, &stats.clipped,
                                   &stats.max_abs_err_index, &stats.worst_block, &stats.hist[random->Below(16)]};
  double* const reals[] = {&stats.sum_e,  &stats.sum_abs_e,   &stats.sum_e2,        &stats.sum_x2,
                           &stats.sum_xy, &stats.max_abs_err, &stats.max_gap_ratio, &stats.worst_block_e2};
  const std::uint64_t which = random->Below(std::size(counts) + std::size(reals));
  if (which < std::size(counts)) {
    *counts[which] += *counts[which] == 0 || random->Coin() ? 1 : ~std::uint64_t{0};
  } else {
    double& real = *reals[which - std::size(counts)];
    real = std::nextafter(real, random->Coin() ? 0.0 : std::numeric_limits<double>::max());
  }
  if (stats == before) return std::nullopt;  // 0 nudged towards 0
  return tensor->entry.name;
}

Subject ChangePadding(Q4Builder* model, Random* random) {
  BuiltTensor* tensor =
      Pick(model, random, [](const BuiltTensor& t) { return IsQuantized(t) && t.entry.elems % 2 != 0; });
  if (tensor == nullptr) return std::nullopt;
  tensor->parts.at(Q4Part::kCodes).back() ^= static_cast<std::uint8_t>(1 + random->Below(15));
  return tensor->entry.name;
}

const std::vector<std::pair<const char*, Mutation>>& Mutations() {
  static const std::vector<std::pair<const char*, Mutation>> mutations = {
      {"code changed by one", ChangeCode},
      {"scale by 2 %", [](Q4Builder* m, Random* r) { return ScaleFloat(m, r, Q4Part::kScales); }},
      {"scale code by one", ChangeScaleCode},
      {"scale of scales by 2 %", [](Q4Builder* m, Random* r) { return ScaleFloat(m, r, Q4Part::kScales2); }},
      {"scale offset to the next float", ChangeOffset},
      {"two blocks swapped", SwapBlocks},
      {"tensor transposed", Transpose},
      {"wrong block size", DeclareBlockSize},
      {"wrong code book", DeclareOtherBook},
      {"wrong dtype", DeclareOtherDType},
      {"tensor missing", RemoveTensor},
      {"tensor renamed", RenameTensor},
      {"bit of a kept tensor", FlipKeptBit},
      {"byte of an embedded file", ChangeFileByte},
      {"recorded statistic", ChangeStats},
      {"padding code", ChangePadding},
  };
  return mutations;
}

// A checkpoint with all that mutations need: odd sizes, tails, kept tensors, other types, embedded files.
std::string WriteSmallModel(const test::TempDir& dir) {
  test::SafetensorsBuilder builder;
  const auto add = [&](const std::string& name, DType dtype, const Shape& shape, std::uint32_t seed) {
    std::uint64_t elems = 1;
    for (const std::uint64_t d : shape) elems *= d;
    builder.Add(name, DTypeName(dtype), shape, test::Weights(dtype, elems, seed));
  };
  add("model.layers.0.mlp.up_proj.weight", DType::kBF16, {131, 77}, 1);
  add("model.layers.0.mlp.down_proj.weight", DType::kF16, {64, 64}, 2);
  add("model.layers.0.self_attn.q_proj.weight", DType::kF32, {200, 128}, 3);
  add("model.layers.0.self_attn.k_proj.weight", DType::kBF16, {1, 33}, 4);
  add("model.layers.0.input_layernorm.weight", DType::kBF16, {64}, 5);
  builder.Add("counter", "I64", {3}, std::string(24, 7));
  add("lm_head.weight", DType::kBF16, {30, 64}, 6);
  dir.Write("src/config.json", R"({"architectures":["LlamaForCausalLM"],"model_type":"llama"})");
  dir.Write("src/tokenizer.json", R"({"version":"1.0"})");
  dir.Write("src/model.safetensors", builder.Build());
  return dir.File("src");
}

struct Outcome {
  std::uint64_t made = 0, caught = 0, named = 0;
};

class MutationRun {
 public:
  MutationRun(const std::string& source, Q4Scheme scheme, bool double_quant) : source_(source) {
    ConvertOptions options;
    options.policy.defaults.scheme = scheme;
    options.policy.defaults.nested = double_quant;
    test::MustConvert(source, options, dir_.File("model.q4"));
    model_ = Q4Builder::Load(PosixFileSystem(), dir_.File("model.q4"));
  }

  // The container as it was read, written again: what makes a finding is the mutation and not the rewriting.
  void CheckUnchangedPasses() { CHECK(Verify(model_).passed()); }

  void Run(std::uint64_t count, Random* random, std::map<std::string, Outcome>* outcomes) {
    std::size_t kind = 0;
    for (std::uint64_t made = 0; made < count;) {
      const auto& [name, mutate] = Mutations()[kind++ % Mutations().size()];
      for (int attempt = 0; attempt < 20; ++attempt) {
        Q4Builder changed = model_;
        const Subject subject = mutate(&changed, random);
        if (!subject) continue;
        ++made;
        Judge(name, *subject, std::move(changed), &(*outcomes)[name]);
        break;
      }
    }
  }

 private:
  VerifyReport Verify(Q4Builder model) {
    const std::string path = dir_.File("mutated.q4");
    model.Write(PosixFileSystem(), path);
    VerifyOptions options;
    options.against = source_;
    return test::Must(VerifyModel(PosixFileSystem(), path, options));
  }

  void Judge(const char* kind, const std::string& subject, Q4Builder changed, Outcome* outcome) {
    const VerifyReport report = Verify(std::move(changed));
    ++outcome->made;
    outcome->caught += !report.passed();
    const bool named = std::any_of(report.findings.begin(), report.findings.end(), [&](const VerifyFinding& finding) {
      return finding.tensor == subject || finding.message.find("'" + subject + "'") != std::string::npos;
    });
    outcome->named += named;
    INFO(kind << " in " << subject << (report.findings.empty() ? "" : ": " + report.findings.front().message));
    CHECK(!report.passed());
    CHECK(named);
  }

  std::string source_;
  test::TempDir dir_;
  Q4Builder model_;
};

TEST_CASE("random changes of what a container says are found, and named") {
  const char* const count_text = std::getenv("Q4_MUTATIONS");
  const char* const model = std::getenv("Q4_MUTATION_MODEL");
  const std::uint64_t count = count_text == nullptr ? 160 : std::stoull(count_text);
  const test::TempDir dir;
  std::vector<std::string> sources;
  if (model != nullptr) {
    sources = {model};
  } else {
    sources = {WriteSmallModel(dir), Q4_TESTDATA "/checkpoints/tiny_plain_src"};
  }
  Random random(20260101);
  std::map<std::string, Outcome> outcomes;
  for (const std::string& source : sources) {
    MutationRun nested(source, Q4Scheme::kNf4, true);
    nested.CheckUnchangedPasses();
    nested.Run(count - count / 2, &random, &outcomes);
    MutationRun plain(source, Q4Scheme::kFp4, false);
    plain.CheckUnchangedPasses();
    plain.Run(count / 2, &random, &outcomes);
  }
  Outcome all;
  for (const auto& [kind, outcome] : outcomes) {
    fmt::print("  {:<32} {:>5} made, {:>5} caught, {:>5} named\n", kind, outcome.made, outcome.caught, outcome.named);
    all.made += outcome.made;
    all.caught += outcome.caught;
    all.named += outcome.named;
  }
  CHECK((model != nullptr || outcomes.size() == Mutations().size()));
  fmt::print("mutation: {} mutations of {} kinds in {} models, {} caught, {} named\n", all.made, outcomes.size(),
             sources.size(), all.caught, all.named);
}

}  // namespace
}  // namespace q4
