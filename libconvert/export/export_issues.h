// Rules of exporting, as docs/errors.md lists them. Numbers from 8001 on are about the command: the output, the flags,
// the memory; from 8101 on about a model that is right but cannot be written in the format asked for. Damage of the
// container itself has the numbers of q4_issues.h, files those of base_issues.h.
#pragma once

#include "formats/base/status.h"

namespace q4 {

// The output. The first holds even with --force: an export never overwrites what it reads.
inline constexpr Issue kExportIsInput{8001, ExitCode::kUsage, "the output is the input, or holds it"};
inline constexpr Issue kExportExists{8002, ExitCode::kUsage, "the output exists; use --force to replace it"};
inline constexpr Issue kExportNotReplaceable{8003, ExitCode::kUsage,
                                             "the output exists, and q4export did not write all of it"};
// What was asked for.
inline constexpr Issue kExportFlag{8004, ExitCode::kUsage, "the flags do not go together"};
inline constexpr Issue kExportNoTensor{8006, ExitCode::kUsage, "no tensor's name matches"};
inline constexpr Issue kExportMemory{8007, ExitCode::kUsage, "less memory than this export needs"};
inline constexpr Issue kExportInterrupted{8008, ExitCode::kInterrupted, "interrupted; run the same command again"};
inline constexpr Issue kExportShards{8009, ExitCode::kUsage, "--shard-size makes too many files"};
inline constexpr Issue kExportOneShard{8010, ExitCode::kUsage, "a single shard does not hold the whole model"};
// Compared by size and digest with the files that the provenance names (replace.h).
inline constexpr Issue kExportIsSource{8011, ExitCode::kUsage,
                                       "the output is or holds a source of the container, which is not replaced"};
// For callers of the library; q4export knows all names from Exporters().
inline constexpr Issue kExportUnknown{8012, ExitCode::kUsage, "there is no exporter of this name"};

// The model. All but kExportConfig name the tensor or file in question.
inline constexpr Issue kExportNameCollision{8101, ExitCode::kUnsupported,
                                            "two tensors of the exported checkpoint would have the same name"};
inline constexpr Issue kExportStorage{8102, ExitCode::kUnsupported,
                                      "packed codes are no whole number of --quant-storage items"};
inline constexpr Issue kExportTransposed{
    8103, ExitCode::kUnsupported,
    "transformers takes this weight transposed in 4 bits, and the container holds it as it was; --unloadable "
    "dequantize writes it at 16 bits"};
inline constexpr Issue kExportConfig{8104, ExitCode::kInvalidInput, "the embedded config.json is not a JSON object"};
inline constexpr Issue kExportNameTaken{8105, ExitCode::kUnsupported,
                                        "an embedded file has the name of a file that the export writes"};
inline constexpr Issue kExportScheme{8106, ExitCode::kUnsupported, "bitsandbytes does not read this scheme"};
// transformers takes the entries of llm_int8_skip_modules for regular expressions, vLLM and older versions for parts of
// names: there is no spelling that all of them take for this name.
inline constexpr Issue kExportSkipName{
    8620, ExitCode::kUnsupported,
    "a module that is not quantized has a name that loaders would take for a regular expression; --to safetensors "
    "writes what they load"};
// Loaders collect what belongs to a 4-bit weight by the beginnings of names.
inline constexpr Issue kExportPartOfWeight{8621, ExitCode::kUnsupported,
                                           "a tensor's name begins with that of a 4-bit weight, so that loaders would "
                                           "take it for a part of that weight; --to safetensors writes what they load"};
// ModuleNames::IsConverted().
inline constexpr Issue kExportConverted{
    8540, ExitCode::kUnsupported,
    "transformers splits or joins this weight while it loads it, which it cannot do when it is quantized"};
inline constexpr Issue kExportGguf{8730, ExitCode::kUnsupported,
                                   "the model came from GGUF: its names, and the order of rows of attention weights, "
                                   "are llama.cpp's, and no loader of bitsandbytes knows them; --to safetensors writes "
                                   "the tensors as they are"};
// Containers of other versions may hold such weights: this one converts none.
inline constexpr Issue kExportForeign{8510, ExitCode::kUnsupported,
                                      "the container holds weights of another quantization, not of bitsandbytes"};
// The first tensor concerned is named, and what it is.
inline constexpr Issue kExportUnloadable{8511, ExitCode::kUnsupported,
                                         "transformers loads 4-bit weights of linear layers only; --unloadable "
                                         "dequantize writes others at 16 bits, which it "
                                         "loads, --unloadable keep4bit as they are, for loaders that take them"};
// Of these two the first tensor concerned is named.
inline constexpr Issue kExportExperts{
    8550, ExitCode::kUnsupported,
    "transformers loads no experts in 4 bits; --experts dequantize writes them at 16 bits, which it loads, --experts "
    "keep4bit as they are, for loaders that take them"};
inline constexpr Issue kExportFusedExperts{
    8551, ExitCode::kUnsupported,
    "transformers loads bitsandbytes checkpoints of this model with a matrix per expert only, in 4 or 16 bits; "
    "--to safetensors writes what it loads, --experts keep4bit the fused experts as they are, for other loaders"};

}  // namespace q4
