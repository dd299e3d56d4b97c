// Plain https: a server says what a file is and not which there are. So each name that files of models are known by is
// asked for. What has another name is not found, and docs/network.md says so.
#include <algorithm>
#include <cctype>
#include <cstdint>

#include "formats/base/status.h"
#include "formats/net/net_issues.h"
#include "formats/net/net_source.h"
#include "formats/net/url.h"

namespace q4 {
namespace {

// Names that transformers, sentence-transformers and diffusers write, of a folder with one model. Shards are named by
// their index.
constexpr std::string_view kNames[] = {
    "LICENSE",
    "LICENSE.md",
    "LICENSE.txt",
    "NOTICE",
    "README.md",
    "USE_POLICY.md",
    "adapter_config.json",
    "adapter_model.bin",
    "adapter_model.safetensors",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "config_sentence_transformers.json",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "generation_config.json",
    "merges.txt",
    "model.safetensors",
    "model.safetensors.index.json",
    "model_index.json",
    "modules.json",
    "params.json",
    "preprocessor_config.json",
    "processor_config.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "quantize_config.json",
    "sentence_bert_config.json",
    "sentencepiece.bpe.model",
    "source.spm",
    "special_tokens_map.json",
    "spiece.model",
    "target.spm",
    "tekken.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
    "vocab.json",
    "vocab.txt",
};

// What the last component of a URL ends in if it is a file.
constexpr std::string_view kFileEndings[] = {".safetensors", ".bin", ".gguf", ".pt", ".pth", ".ckpt", ".json", ".q4"};

int DigitOf(char c) { return c <= '9' ? c - '0' : (c | 32) - 'a' + 10; }

// For a user and password, which stand percent-encoded in a URL.
std::string Decoded(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool code = text[i] == '%' && i + 2 < text.size() && std::isxdigit(static_cast<unsigned char>(text[i + 1])) &&
                      std::isxdigit(static_cast<unsigned char>(text[i + 2]));
    out.push_back(code ? static_cast<char>(DigitOf(text[i + 1]) * 16 + DigitOf(text[i + 2])) : text[i]);
    if (code) i += 2;
  }
  return out;
}

std::string Base64(std::string_view text) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < text.size(); i += 3) {
    std::uint32_t group = 0;
    const std::size_t bytes = std::min<std::size_t>(3, text.size() - i);
    for (std::size_t k = 0; k < 3; ++k) group = group << 8 | (k < bytes ? static_cast<unsigned char>(text[i + k]) : 0u);
    for (std::size_t k = 0; k < 4; ++k) out.push_back(k <= bytes ? kDigits[group >> (18 - 6 * k) & 63] : '=');
  }
  return out;
}

class Web final : public NetSource {
 public:
  Web(std::string origin, WebAccess access) : origin_(std::move(origin)), access_(std::move(access)) {}

  absl::StatusOr<NetEntry> Find(const std::string& path) override {
    NetEntry entry;
    std::string_view name = path;
    name.remove_prefix(std::min(name.size(), origin_.size()));
    while (name.ends_with('/')) name.remove_suffix(1);
    const std::size_t slash = name.rfind('/');
    const std::string_view last = slash == std::string_view::npos ? name : name.substr(slash + 1);
    const bool is_file =
        std::any_of(std::begin(kFileEndings), std::end(kFileEndings),
                    [&](std::string_view ending) { return last.ends_with(ending); }) ||
        std::any_of(std::begin(kNames), std::end(kNames), [&](std::string_view n) { return n == last; });
    entry.kind = is_file ? NetEntry::Kind::kFile : NetEntry::Kind::kFolder;
    entry.target.url = origin_ + EncodePath(name) + access_.query;
    entry.target.name = path;
    entry.target.when_denied =
        access_.userinfo.empty() && access_.query.empty()
            ? "; give access in the URL: USER:PASSWORD@ before the server, or a signed query behind the path"
            : "; with the credentials of the URL";
    if (!access_.userinfo.empty()) {
      entry.target.credentials = [line = "Authorization: Basic " + Base64(Decoded(access_.userinfo))] {
        return std::vector<std::string>{line};
      };
    }
    return entry;
  }

  absl::StatusOr<Names> List(const std::string&) override {
    Names names;
    names.known = false;
    names.names.assign(std::begin(kNames), std::end(kNames));
    return names;
  }

 private:
  const std::string origin_;
  const WebAccess access_;
};

}  // namespace

std::unique_ptr<NetSource> OpenWeb(const std::string& origin, const WebAccess& access) {
  return std::make_unique<Web>(origin, access);
}

}  // namespace q4
