#include "tests/libconvert/report/sample.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <string>

#include "fmt/format.h"
#include "tests/support/provenance.h"

namespace q4::test {
namespace {

struct Module {
  const char* name;
  const char* role;
  Shape shape;
  double spread;  // of the weights
};

const std::vector<Module>& Modules() {
  static const std::vector<Module> modules = {{"input_layernorm", "input_layernorm", {1024}, 0},
                                              {"mlp.down_proj", "down_proj", {1024, 2816}, 0.021},
                                              {"mlp.gate_proj", "gate_proj", {2816, 1024}, 0.018},
                                              {"mlp.up_proj", "up_proj", {2816, 1024}, 0.017},
                                              {"post_attention_layernorm", "post_attention_layernorm", {1024}, 0},
                                              {"self_attn.k_proj", "k_proj", {256, 1024}, 0.03},
                                              {"self_attn.o_proj", "o_proj", {1024, 1024}, 0.015},
                                              {"self_attn.q_proj", "q_proj", {1024, 1024}, 0.028},
                                              {"self_attn.v_proj", "v_proj", {256, 1024}, 0.012}};
  return modules;
}

// How often a normal distribution meets each of the 16 codes, in thousandths.
constexpr std::array<std::uint64_t, 16> kUses = {12, 31, 53, 72, 83, 88, 90, 80, 76, 80, 78, 72, 63, 53, 39, 30};

Q4Stats MakeStats(std::uint64_t elems, double spread, double nmse) {
  Q4Stats stats;
  const double n = static_cast<double>(elems);
  stats.count = elems;
  stats.sum_x2 = n * spread * spread;
  stats.sum_e2 = stats.sum_x2 * nmse;
  stats.sum_xy = stats.sum_x2 * (1 - nmse / 2);
  stats.sum_e = n * spread * 1e-5;
  stats.sum_abs_e = n * spread * std::sqrt(nmse) * 0.8;
  stats.max_abs_err = spread * 0.6;
  stats.max_abs_err_index = elems / 3;
  stats.max_gap_ratio = 0.9998;
  stats.worst_block = elems / 128;
  stats.worst_block_e2 = 64 * spread * spread * nmse * 4;
  for (std::size_t code = 0; code < kUses.size(); ++code) stats.hist[code] = elems * kUses[code] / 1000;
  return stats;
}

ScaleSpread MakeScales(std::uint64_t blocks, double spread) {
  ScaleSpread scales;
  scales.count = blocks;
  scales.min = static_cast<float>(spread * 1.4);
  scales.max = static_cast<float>(spread * 4.5);
  const int middle = static_cast<int>(std::floor(std::log2(spread * 2.4)));
  scales.by_exponent = {
      {middle - 1, blocks / 10}, {middle, blocks - blocks / 10 - blocks / 4}, {middle + 1, blocks / 4}};
  return scales;
}

std::vector<WorstBlock> MakeBlocks(const VerifyTensor& tensor, double spread) {
  std::vector<WorstBlock> blocks;
  for (std::uint64_t i = 0; i < kWorstBlocks; ++i) {
    WorstBlock block;
    block.block = tensor.stats.worst_block + i * 7;
    block.sum_e2 = tensor.stats.worst_block_e2 / static_cast<double>(i + 1);
    block.scale = static_cast<float>(spread * 4);
    for (std::uint64_t k = 0; k < kWorstElements; ++k) {
      const float source = static_cast<float>(spread) * (3.1f - static_cast<float>(k));
      block.elements.push_back({block.block * tensor.block_size + 5 * k, source, source * 0.91f});
    }
    blocks.push_back(std::move(block));
  }
  return blocks;
}

VerifyTensor MakeTensor(const std::string& layer, const Module& module, std::size_t number) {
  VerifyTensor tensor;
  tensor.name = layer + "." + module.name + ".weight";
  tensor.shape = module.shape;
  tensor.dtype = DType::kBF16;
  tensor.elems = module.shape.size() == 1 ? module.shape[0] : module.shape[0] * module.shape[1];
  tensor.layer = layer;
  tensor.role = module.role;
  tensor.compared = true;
  tensor.proof = module.spread == 0 ? TensorProof::kEqual : TensorProof::kRecomputed;
  tensor.compared_elems = tensor.elems;
  tensor.stored_bytes = tensor.elems * 2;
  if (module.spread == 0) return tensor;
  tensor.scheme = Q4Scheme::kNf4;
  tensor.encoder = Q4Encoder::kAbsmax;
  tensor.block_size = 64;
  tensor.nested = true;
  tensor.stored_bytes = tensor.elems * 66 / 128;
  tensor.has_stats = true;
  // Later layers are a little worse, and the roles differ.
  const double wave = std::sin(static_cast<double>(number) * 0.9 + module.spread * 300);
  tensor.stats =
      MakeStats(tensor.elems, module.spread, 0.0085 + 0.00006 * static_cast<double>(number % 40) + 0.0004 * wave);
  tensor.scales = MakeScales(tensor.elems / 64, module.spread);
  tensor.worst_blocks = MakeBlocks(tensor, module.spread);
  return tensor;
}

std::string SampleProvenance() {
  Json file;
  file["name"] = "model.safetensors";
  file["sha256"] = std::string(64, '5');
  file["size"] = 5242880;
  return test::ProvenanceOf(test::RecordedOptionsFor({}), Json::array({file}));
}

Evaluation SampleEvaluation(const std::vector<VerifyTensor>& tensors) {
  Evaluation evaluation;
  evaluation.path = "out/evaluation.json";
  evaluation.name = "nf4";
  evaluation.task = "causal_lm";
  evaluation.original = "models/sample";
  evaluation.original_is_source = true;
  evaluation.inputs_kind = "texts";
  evaluation.inputs_sha256 = std::string(64, '6');
  evaluation.sequences = 64;
  evaluation.tokens = 4096;
  evaluation.compared = 4032;
  const std::pair<const char*, double> kNumbers[] = {{"kl_mean", 0.0123},          {"kl_p99", 0.0811},
                                                     {"kl_max", std::nan("")},     {"top1_agreement", 0.9712},
                                                     {"perplexity_ratio", 1.0142}, {"layer_error_max", 0.0194}};
  for (const auto& [name, value] : kNumbers) evaluation.numbers.emplace_back(FindEvaluationNumber(name), value);
  for (const VerifyTensor& tensor : tensors) {
    if (!tensor.has_stats) continue;
    const std::string module = tensor.name.substr(0, tensor.name.size() - std::string(".weight").size());
    evaluation.layers.push_back({module, 512, Derive(tensor.stats).nmse});
  }
  return evaluation;
}

}  // namespace

VerifyReport SampleReport(std::size_t layers) {
  VerifyReport report;
  report.path = "out/sample.q4";
  report.source = "models/sample";
  report.shards = report.shard_count = 1;
  report.chunks = layers * 27;
  report.embedded_files = 3;
  report.architecture = "LlamaForCausalLM";
  report.model_type = "llama";
  report.provenance = SampleProvenance();
  report.strength.policy = VerifyStrength::Policy::kWhole;
  report.stats_recomputed = true;
  std::map<std::string, ModelStats> roles;
  std::vector<VerifyGroup> layer_groups;
  for (std::size_t layer = 0; layer < layers; ++layer) {
    const std::string name = fmt::format("model.layers.{}", layer);
    VerifyGroup group{VerifyGroup::Kind::kLayer, name, {}};
    for (const Module& module : Modules()) {
      VerifyTensor tensor = MakeTensor(name, module, layer);
      report.file_bytes += tensor.stored_bytes;
      report.source_bytes += tensor.elems * 2;
      if (tensor.has_stats) {
        AddTensor(tensor.name, tensor.stats, &group.stats);
        AddTensor(tensor.name, tensor.stats, &roles[tensor.role]);
        report.scales.count += tensor.scales.count;
        report.scales.min = report.scales.min == 0 ? tensor.scales.min : std::min(report.scales.min, tensor.scales.min);
        report.scales.max = std::max(report.scales.max, tensor.scales.max);
        for (const auto& [exponent, count] : tensor.scales.by_exponent) report.scales.by_exponent[exponent] += count;
      }
      report.tensors.push_back(std::move(tensor));
    }
    layer_groups.push_back(std::move(group));
  }
  std::sort(report.tensors.begin(), report.tensors.end(),
            [](const VerifyTensor& a, const VerifyTensor& b) { return a.name < b.name; });
  for (const VerifyTensor& tensor : report.tensors) {
    if (tensor.has_stats) AddTensor(tensor.name, tensor.stats, &report.model);
  }
  report.groups = std::move(layer_groups);
  for (const auto& [role, stats] : roles) report.groups.push_back({VerifyGroup::Kind::kRole, role, stats});
  report.evaluation = SampleEvaluation(report.tensors);
  return report;
}

void AddGates(std::size_t broken, VerifyReport* report) {
  for (VerifyTensor& tensor : report->tensors) {
    if (tensor.scheme == Q4Scheme::kRaw) continue;
    GateVerdict verdict{"weights", GateVerdict::Scope::kTensor, tensor.name, "nmse", true,
                        0.05,      Derive(tensor.stats).nmse,   true};
    if (broken != 0) {
      --broken;
      verdict.limit = 0.001;
      verdict.passed = false;
      tensor.passed = false;
      ++report->finding_count;
      if (report->findings.size() < kMaxFindings) {
        report->findings.push_back(
            {6301, tensor.name,
             fmt::format("{}: tensor '{}': NMSE exceeds the limit (got {}, expected at most 0.001) [Q4-6301]",
                         report->path, tensor.name, verdict.value)});
      }
    }
    report->gates.push_back(std::move(verdict));
  }
  report->gates.push_back(
      {"model", GateVerdict::Scope::kModel, "", "sqnr_db", false, 15, Derive(report->model.total).sqnr_db, true});
}

void AddProblems(VerifyReport* report) {
  report->tensors[1].passed = report->tensors[2].passed = false;
  const std::string& damaged = report->tensors[1].name;
  const std::string& changed = report->tensors[2].name;
  report->findings.push_back({7041, "", report->path + ": index: the checksum is wrong [Q4-7041]"});
  report->findings.push_back({7044, damaged, report->path + ": tensor '" + damaged + "': damaged chunk [Q4-7044]"});
  report->findings.push_back({6207, changed, report->path + ": tensor '" + changed + "': codes differ [Q4-6207]"});
  report->findings.push_back({6201, "lost.weight", report->path + ": tensor 'lost.weight': missing [Q4-6201]"});
  report->findings.push_back({6214, "", report->path + ": file 'config.json': not embedded [Q4-6214]"});
  report->finding_count += 5;
}

const std::vector<std::string>& HostileNames() {
  static const std::vector<std::string> names = {
      "</script><script>document.title='owned'</script>",
      "<img src=x onerror=\"document.title='owned'\">",
      "<!-- <script> ]]> & &amp; &lt;",
      "a|b`c` **bold** [link](http://example.com) @someone #1 <b>",
      "\x1b[31mred\x07\n\r\t\x01\x7f end",
      "right\xE2\x80\xAEtfel \xEF\xBF\xBE\xEF\xBF\xBF",
      "not utf-8 \xff\xfe",
      "' onmouseover='document.title=1' \"quoted\" \\x41 \\|",
      std::string(5000, 'n'),
      "",
  };
  return names;
}

void UseHostileNames(VerifyReport* report) {
  std::vector<std::string> names = HostileNames();
  for (std::size_t i = 0; i < report->tensors.size() && i < names.size(); ++i) {
    VerifyTensor& tensor = report->tensors[i];
    const std::string old_name = tensor.name;
    tensor.name = tensor.layer = tensor.role = names[i];
    for (VerifyFinding& finding : report->findings) {
      if (finding.tensor == old_name) finding = {finding.issue, names[i], "file: tensor '" + names[i] + "': bad"};
    }
    for (GateVerdict& verdict : report->gates) {
      if (verdict.subject == old_name) verdict.subject = verdict.gate = names[i];
    }
    report->groups.push_back({VerifyGroup::Kind::kLayer, names[i], report->model});
    report->groups.push_back({VerifyGroup::Kind::kRole, names[i], report->model});
  }
  report->path = report->source = report->architecture = report->baseline = names[0];
  std::sort(report->tensors.begin(), report->tensors.end(),
            [](const VerifyTensor& a, const VerifyTensor& b) { return a.name < b.name; });
}

}  // namespace q4::test
