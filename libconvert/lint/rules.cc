// The one table of lint rules. docs/lint.md repeats it for readers; tests/libconvert/lint/lint_test.cc compares the
// two.
#include <algorithm>
#include <array>

#include "libconvert/lint/findings.h"
#include "libconvert/lint/lint.h"
#include "libconvert/lint/lint_issues.h"

namespace q4 {
namespace {

constexpr LintRule kRules[] = {
    {&kLintFileMalformed, "file-malformed", "No loader can read this file.",
     "Download it again; compare its size with the publisher's."},
    {&kLintShardMissing, "shard-missing", "Loading stops at the first tensor of that shard.",
     "Download the shard, or write the index again."},
    {&kLintTensorNotInShard, "tensor-not-in-shard", "Loading stops, or the weight stays random.",
     "Index and shards are of different versions: download both again."},
    {&kLintTensorUnlisted, "tensor-unlisted", "Loaders that go by the index never see the tensor.",
     "Index and shards are of different versions: download both again."},
    {&kLintTensorTwice, "tensor-twice", "Which of the two is loaded depends on the loader.",
     "Remove the shard that does not belong to the model."},
    {&kLintTotalSize, "total-size", "Loaders plan memory with a wrong number.", "Write the index again."},
    {&kLintUnusedFile, "unused-file", "A loader that takes every file mixes two models.",
     "Remove the file if it belongs to an older version."},
    {&kLintIndexMissing, "index-missing", "Loaders do not know which files belong to the model.",
     "Download model.safetensors.index.json."},
    {&kLintQuantStateMissing, "quant-state-missing",
     "Type, block size and shape are unknown: the weight cannot be decoded.",
     "Save the model again with the library that quantized it."},
    {&kLintWeightMissing, "weight-missing", "The scales have nothing to scale; the module stays without weights.",
     "Look for the weight in another shard or under another name."},
    {&kLintAbsmaxMissing, "absmax-missing", "Without its scales the weight cannot be decoded.",
     "Look for the scales in another shard; else quantize again."},
    {&kLintQuantMapMissing, "quant-map-missing", "The bitsandbytes loader refuses the weight.",
     "Export again; the map follows from the type."},
    {&kLintNestedMissing, "nested-missing", "The 8-bit scales cannot be decoded.",
     "Look for the parts in another shard; else quantize again."},
    {&kLintNestedExtra, "nested-extra", "The parts are ignored, or the quant_state is of another version.",
     "Find out whether the scales are nested."},
    {&kLintQuantStateMalformed, "quant-state-malformed", "The loader cannot tell how to decode the weight.",
     "Export again; the text must be as bitsandbytes writes it."},
    {&kLintQuantStateTwice, "quant-state-twice", "Which of the two is believed depends on the loader.",
     "Remove the one that is of an older version."},
    {&kLintPartnerMissing, "partner-missing", "Codes without scales, or scales without codes, cannot be decoded.",
     "Look for the partner in another shard or under another name."},
    {&kLintCodeCount, "code-count", "The weight was cut, or belongs to another shape.", "Quantize or export again."},
    {&kLintScaleCount, "scale-count", "Scales meet the wrong blocks, or lie outside the tensor.",
     "Compare the block size with the one it was quantized with."},
    {&kLintPartType, "part-type", "The loader reads the bytes as other numbers than were written.", "Export again."},
    {&kLintScaleNotFinite, "scale-not-finite",
     "Every element of the block becomes NaN or infinite, and then every output.",
     "Quantize again from an original without NaN."},
    {&kLintScalesZero, "scales-zero", "The weight decodes to zero: its scales were never written.", "Quantize again."},
    {&kLintScaleZero, "scale-zero", "A block that was not zero decodes to zero.", "Compare with the original."},
    {&kLintScaleNegative, "scale-negative", "The absmax encoder never writes one; some kernels drop the sign.",
     "Fine if an encoder that searches scales wrote it; else compare with the original."},
    {&kLintQuantMap, "quant-map", "Codes decode to other values than were chosen.",
     "Export again; check which type the codes are of."},
    {&kLintNestedMap, "nested-map", "Scales decode to other values than were chosen.",
     "Fine if another library made its own map; else export again."},
    {&kLintValueNotFinite, "value-not-finite", "NaN in a norm or an embedding spreads to every output.",
     "Compare with the original."},
    {&kLintCodeType, "code-type", "NF4 codes are read as FP4, or the reverse: the model runs and answers nonsense.",
     "Correct the type, or quantize again."},
    {&kLintBlockWithoutExtreme, "block-without-extreme",
     "The absmax encoder gives every block its largest code. Wrong block size, type or order of codes; or another "
     "encoder.",
     "Compare the block size with the one it was quantized with."},
    {&kLintBlockSmaller, "block-smaller", "Every half block has its largest code: the true blocks are smaller.",
     "Compare the block size with the one it was quantized with."},
    {&kLintNibbleOrder, "nibble-order", "Neighbours correlate as if the two codes of each byte were swapped.",
     "Decode some elements and compare with the original."},
    {&kLintPadding, "padding",
     "The code behind an odd number of elements is not zero: swapped codes, or another writer.",
     "Compare the last elements with the original."},
    {&kLintConfigMissing, "config-missing", "Loaders cannot tell the architecture, nor that it is quantized.",
     "Add config.json of the original with quantization_config."},
    {&kLintConfigMalformed, "config-malformed", "Loaders stop.", "Download it again."},
    {&kLintConfigNotQuantized, "config-not-quantized", "Loaders expect plain weights and fail on the packed shapes.",
     "Add quantization_config."},
    {&kLintConfigQuantized, "config-quantized", "Loaders expect packed weights and fail on the plain ones.",
     "Remove quantization_config, or publish the quantized weights."},
    {&kLintConfigType, "config-type", "Loaders that believe config.json decode with the other code book.",
     "Correct config.json: the tensors' own quant_state decides."},
    {&kLintConfigDoubleQuant, "config-double-quant", "Loaders that believe config.json look for other tensors.",
     "Correct config.json: the tensors' own quant_state decides."},
    {&kLintConfigStorage, "config-storage", "Sharded training (FSDP) mixes dtypes.", "Correct config.json."},
    {&kLintSkipNotListed, "skip-not-listed",
     "The loader makes a 4-bit module for it, and the first forward pass fails.",
     "Add the module to llm_int8_skip_modules."},
    {&kLintSkipButQuantized, "skip-but-quantized",
     "The loader makes a plain module, and the packed weight does not fit.",
     "Remove the entry from llm_int8_skip_modules."},
    {&kLintHeadMissing, "head-missing", "The output embedding stays random: the model answers noise.",
     "Set tie_word_embeddings, or add the tensor."},
    {&kLintTiedTwice, "tied-twice", "One of the two is dropped when loading.", "Correct tie_word_embeddings."},
    {&kLintLayerMissing, "layer-missing", "The layer stays random.",
     "A shard is missing, or num_hidden_layers is wrong."},
    {&kLintVocabulary, "vocabulary", "Loading stops, or token numbers point outside the table.", "Correct vocab_size."},
};

const LintRule& RuleOf(int number) {
  return *std::find_if(std::begin(kRules), std::end(kRules),
                       [number](const LintRule& rule) { return rule.issue->number == number; });
}

}  // namespace

std::span<const LintRule> LintRules() { return kRules; }

void LintFindings::Add(const Issue& issue, std::string_view where, std::string_view detail) {
  OfRule& of_rule = by_number_[issue.number];
  ++of_rule.count;
  if (of_rule.kept.size() == kMaxLintFindingsPerRule) return;
  of_rule.kept.push_back({&RuleOf(issue.number), std::string(where), std::string(detail)});
}

void LintFindings::MoveTo(LintReport* report) {
  for (auto& [number, of_rule] : by_number_) {
    (of_rule.kept.front().rule->is_error() ? report->errors : report->warnings) += of_rule.count;
    for (LintFinding& finding : of_rule.kept) report->findings.push_back(std::move(finding));
  }
}

}  // namespace q4
